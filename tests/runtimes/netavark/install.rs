//! `scripts/install-netavark`, into folders that end with the test.

use std::fs;

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use super::{PROGRAM, install};

pub(super) fn trials() -> Vec<Trial> {
    let test = |name: &str, test: fn()| {
        Trial::test(name, move || -> Result<(), Failed> {
            test();
            Ok(())
        })
    };
    vec![
        test("install-netavark: program and settings are installed, also repeatedly, and taken away again", everyday),
        test(
            "install-netavark: different settings stay, unless --force is given; wrong arguments are refused",
            different,
        ),
    ]
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn everyday() {
    let root = TempDir::new().unwrap();
    let [bin, conf, plugin] = ["bin", "conf", "plugin"].map(|name| format!("{}/{name}", root.path().display()));
    let folders = ["--bin-dir", &bin, "--conf-dir", &conf, "--program", PROGRAM];
    for _ in 0..2 {
        install(&folders).ok();
        assert_eq!(
            (names(&bin), names(&conf)),
            (vec!["aardvark-dns".into(), "netavark".into()], vec!["50-netd.conf".into()])
        );
    }
    let settings = fs::read_to_string(format!("{conf}/50-netd.conf")).unwrap();
    assert!(settings.contains(&format!("helper_binaries_dir = [\"{bin}\", ")), "{settings}");
    install(&[&folders[..], &["--undo"]].concat()).ok();
    assert_eq!((fs::exists(&bin).unwrap(), names(&conf)), (false, vec![]));
    let of_plugin = ["--plugin", "--plugin-dir", &plugin, "--program", PROGRAM];
    install(&of_plugin).ok();
    assert_eq!(names(&plugin), ["netd"]);
    install(&[&of_plugin[..], &["--undo"]].concat()).ok();
    assert_eq!((names(&plugin), names(&conf)), (vec![], vec![]));
}

fn different() {
    let root = TempDir::new().unwrap();
    let [bin, conf] = ["bin", "conf"].map(|name| format!("{}/{name}", root.path().display()));
    let folders = ["--bin-dir", &bin, "--conf-dir", &conf, "--program", PROGRAM];
    fs::create_dir(&conf).unwrap();
    let settings = format!("{conf}/50-netd.conf");
    fs::write(&settings, "mine\n").unwrap();
    for more in [&[][..], &["--undo"]] {
        let refused = install(&[&folders[..], more].concat());
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
        assert!(refused.stderr.contains(&settings) && refused.stderr.contains("--force"), "{refused:?}");
        assert_eq!((fs::read_to_string(&settings).unwrap().as_str(), names(&bin)), ("mine\n", vec![]));
    }
    install(&[&folders[..], &["--force"]].concat()).ok();
    assert_ne!(fs::read_to_string(&settings).unwrap(), "mine\n");
    for words in [&["--bin-dir"][..], &["--frobnicate"], &["--program", "/nowhere/netavark"]] {
        let refused = install(words);
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(2), 1), "{refused:?}");
        assert!(refused.stderr.starts_with("install-netavark: "), "{refused:?}");
    }
    assert!(install(&["--help"]).ok().stdout.contains("--undo"));
}
