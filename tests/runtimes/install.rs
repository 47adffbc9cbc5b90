//! `scripts/install-cni` and `scripts/install-hook`, into folders that end with the test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::harness;
use crate::world::{find, ours};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name: &str, test: fn(&Folder)| {
        Trial::test(name, move || -> Result<(), Failed> {
            test(&Folder::new());
            Ok(())
        })
    };
    vec![
        test("install-cni: plugin and default configuration are installed, also repeatedly", everyday),
        test("install-cni: a different configuration of the same name stays, unless --force is given", different),
        test("install-cni: wrong arguments give one line, and nothing is changed", wrong),
        test("install-cni: --remove undoes it, and leaves what it did not install", removed),
        test("install-hook: hooks.d is filled and emptied again", hooks_folder),
        harness::trial("install-hook: a bundle gets the hooks once, beside its own, and loses them again", || {
            find("jq")
                .map(|_| bundle(&Folder::new()))
                .ok_or_else(|| "jq is not installed (scripts/test installs it)".to_owned())
        }),
        test("install-hook: wrong arguments give one line, and nothing is changed", wrong_hook),
    ]
}

/// A folder with a stand-in for the plugin.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(TempDir::new().expect("a folder"));
        fs::write(folder.path("plugin"), "#!/bin/sh\nexit 0\n").expect("a file");
        fs::set_permissions(folder.path("plugin"), fs::Permissions::from_mode(0o700)).expect("its mode");
        folder
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0.path().display())
    }

    /// Installs into the folders `bin` and `conf`, from a working directory of no importance.
    fn install(&self, more: &[&str]) -> Output {
        let mut command = Command::new(ours("scripts/install-cni"));
        command.args(["--bin-dir", &self.path("a/bin"), "--conf-dir", &self.path("a/conf"), "--plugin"]);
        command.arg(self.path("plugin")).args(more).current_dir("/").env("LC_ALL", "C");
        command.output().expect("the script starts")
    }

    /// `scripts/install-hook` with the stand-in as program.
    fn hook(&self, more: &[&str]) -> Output {
        let mut command = Command::new(ours("scripts/install-hook"));
        command.args(["--netd", &self.path("plugin")]).args(more).current_dir("/").env("LC_ALL", "C");
        command.output().expect("the script starts")
    }

    fn installed(&self) -> Vec<String> {
        let entries = ["a/bin", "a/conf"].into_iter().flat_map(|folder| fs::read_dir(self.path(folder)));
        let mut names: Vec<String> =
            entries.flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[track_caller]
fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

fn everyday(folder: &Folder) {
    for _ in 0..2 {
        succeeded(&folder.install(&[]));
        assert_eq!(folder.installed(), ["10-netd.conflist", "netd-cni"], "and nothing beside them");
    }
    let mode = |name: &str| fs::metadata(folder.path(name)).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!((mode("a/bin/netd-cni"), mode("a/conf/10-netd.conflist")), (0o755, 0o644));
    let read = |path: &str| fs::read_to_string(path).expect("a text");
    assert_eq!(read(&folder.path("a/bin/netd-cni")), read(&folder.path("plugin")));
    assert_eq!(read(&folder.path("a/conf/10-netd.conflist")), read(&ours("cni-conf/10-netd.conflist")));
    let two = [ours("cni-conf/10-podman.conflist"), ours("cni-conf/10-netd-internal.conflist")];
    succeeded(&folder.install(&two.each_ref().map(String::as_str)));
    let names = ["10-netd-internal.conflist", "10-netd.conflist", "10-podman.conflist", "netd-cni"];
    assert_eq!(folder.installed(), names);
}

fn different(folder: &Folder) {
    fs::create_dir_all(folder.path("a/conf")).expect("a folder");
    let there = folder.path("a/conf/10-netd.conflist");
    fs::write(&there, "{}").expect("a file");
    let output = folder.install(&[]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), message.lines().count()), (Some(1), 1), "{message}");
    assert!(message.contains(&there) && message.contains("--force"), "{message}");
    assert_eq!((fs::read_to_string(&there).expect("a text").as_str(), folder.installed().len()), ("{}", 1));
    succeeded(&folder.install(&["--force"]));
    assert_ne!(fs::read_to_string(&there).expect("a text"), "{}");
}

fn wrong(folder: &Folder) {
    fs::write(folder.path("net.json"), "{}").expect("a file");
    for (more, word) in [
        (&["--bin-dir"][..], "--bin-dir"),
        (&["--conf-dir", ""], "--conf-dir"),
        (&["--frobnicate"], "--frobnicate"),
        (&["/nowhere/10-none.conflist"], "/nowhere/10-none.conflist"),
        (&[&folder.path("net.json")], "net.json"),
        (&["--plugin", "/nowhere/netd-cni"], "/nowhere/netd-cni"),
    ] {
        let output = folder.install(more);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), message.lines().count()), (Some(2), 1), "{more:?}: {message}");
        assert!(message.starts_with("install-cni: ") && message.contains(word), "{more:?}: {message}");
        assert!(!fs::exists(folder.path("a")).expect("a look"), "{more:?}: {:?}", folder.installed());
    }
    let help = folder.install(&["--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--bin-dir"), "{help:?}");
}

fn removed(folder: &Folder) {
    succeeded(&folder.install(&["--remove"]));
    let two = [ours("cni-conf/10-podman.conflist"), ours("cni-conf/10-netd.conflist")];
    succeeded(&folder.install(&two.each_ref().map(String::as_str)));
    fs::write(folder.path("a/conf/99-other.conflist"), "{}").expect("a file");
    succeeded(&folder.install(&["--remove"]));
    assert_eq!(folder.installed(), ["10-podman.conflist", "99-other.conflist", "netd-cni"], "podman still needs it");
    fs::write(folder.path("a/conf/10-podman.conflist"), "{\"type\": \"netd-cni\"}").expect("a file");
    let output = folder.install(&["--remove", &two[0]]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("--force"), "{output:?}");
    for _ in 0..2 {
        succeeded(&folder.install(&["--remove", "--force", &two[0]]));
        assert_eq!(folder.installed(), ["99-other.conflist"]);
    }
}

fn hooks_folder(folder: &Folder) {
    let (hooks, file) = (folder.path("b/hooks.d"), folder.path("b/hooks.d/netd.json"));
    for _ in 0..2 {
        succeeded(&folder.hook(&["--hooks-dir", &hooks]));
        let names: Vec<_> =
            fs::read_dir(&hooks).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["netd.json"], "and nothing beside it");
    }
    let text = fs::read_to_string(&file).expect("a text");
    let hook: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&hook["version"], &hook["hook"]["path"]), (&"1.0.0".into(), &folder.path("plugin").into()));
    let ready = fs::read_to_string(ours("dist/hooks.d/netd.json")).expect("a text");
    assert_eq!(text.replace(&folder.path("plugin"), "/usr/local/bin/netd"), ready);
    fs::write(&file, "{}").expect("a file");
    for more in [&["--hooks-dir", &hooks][..], &["--hooks-dir", &hooks, "--remove"]] {
        let output = folder.hook(more);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && message.contains("--force"), "{message}");
    }
    succeeded(&folder.hook(&["--hooks-dir", &hooks, "--force"]));
    for _ in 0..2 {
        succeeded(&folder.hook(&["--hooks-dir", &hooks, "--remove"]));
        assert!(!fs::exists(&file).expect("a look"));
    }
}

fn bundle(folder: &Folder) {
    let config = folder.path("config.json");
    let own = serde_json::json!({"path": "/bin/other", "args": ["other", "hook"]});
    let before = serde_json::json!({"ociVersion": "1.0.2", "root": {"path": "x"}, "hooks": {"poststop": [own]}});
    fs::write(&config, before.to_string()).expect("a file");
    let read =
        || serde_json::from_str::<serde_json::Value>(&fs::read_to_string(&config).expect("a text")).expect("JSON");
    let ours = serde_json::json!({"path": folder.path("plugin"), "args": ["netd", "hook"]});
    for _ in 0..2 {
        succeeded(&folder.hook(&["--bundle", &folder.path(".")]));
        assert_eq!(read()["hooks"], serde_json::json!({"createRuntime": [ours], "poststop": [own, ours]}));
    }
    succeeded(&folder.hook(&["--bundle", &folder.path("."), "--remove"]));
    assert_eq!(read(), before);
    fs::write(&config, "{").expect("a file");
    let output = folder.hook(&["--bundle", &folder.path(".")]);
    assert_eq!((output.status.code(), fs::read_to_string(&config).expect("a text").as_str()), (Some(1), "{"));
}

fn wrong_hook(folder: &Folder) {
    for (more, word) in [
        (&["--bundle"][..], "--bundle"),
        (&["--bundle", "/nowhere"], "/nowhere/config.json"),
        (&["--bundle", "/x", "--hooks-dir", "/y"], "exclude each other"),
        (&["--frobnicate"], "--frobnicate"),
        (&["--netd", "/nowhere/netd"], "/nowhere/netd"),
        (&["--netd", "/a\"b"], "without quotes"),
    ] {
        let output = folder.hook(more);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), message.lines().count()), (Some(2), 1), "{more:?}: {message}");
        assert!(message.starts_with("install-hook: ") && message.contains(word), "{more:?}: {message}");
    }
    assert!(folder.hook(&["--help"]).status.success());
}
