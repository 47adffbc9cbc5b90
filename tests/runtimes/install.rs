//! `scripts/install-cni`, into folders that end with the test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::world::ours;

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
