//! Which files are written, replaced and removed, and that prepared folders cannot mislead netd.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;

/// A folder with the files (`etc`) and the namespaces (`run`).
struct World(TempDir);

impl World {
    fn new(namespaces: &[&str]) -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        fs::create_dir(world.0.path().join("run")).unwrap();
        fs::create_dir(world.root()).unwrap();
        namespaces.iter().for_each(|name| world.namespace(name));
        world
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("etc")
    }

    fn namespace(&self, name: &str) {
        fs::write(self.0.path().join("run").join(name), "").unwrap();
    }

    fn files(&self, instance: &str) -> Files {
        let mut files = Files::new(self.root(), self.0.path().join("run"), "boot");
        files.sign(instance);
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.root().join(name)).unwrap();
        fs::write(at(&self.root(), name), text).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(at(&self.root(), name)).ok()
    }
}

/// The path of a namespace's file.
fn at(root: &std::path::Path, netns: &str) -> PathBuf {
    root.join(netns).join(NAME)
}

const ONE: &str = "nameserver 10.77.0.1\n";
const TWO: &str = "nameserver 10.77.1.1\n";

#[test]
fn the_file_comes_and_goes_with_its_folder() {
    let world = World::new(&["web"]);
    fs::remove_dir(world.root()).unwrap();
    let mut files = world.files("a");
    files.apply("web", None, Some(ONE)).unwrap();
    let text = world.read("web").unwrap();
    assert!(text.starts_with(&format!("{MARKER}{SIGNATURE}a for boot:")) && text.ends_with(ONE), "{text}");
    files.apply("web", Some(ONE), Some(TWO)).unwrap();
    assert!(world.read("web").unwrap().ends_with(TWO));
    assert_eq!(fs::read_dir(world.root().join("web")).unwrap().count(), 1);
    for (path, mode) in [(at(&world.root(), "web"), 0o644), (world.root().join("web"), 0o755), (world.root(), 0o755)] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode, "{}", path.display());
    }
    files.apply("web", Some(TWO), None).unwrap();
    files.apply("web", None, None).unwrap();
    assert!(!world.root().join("web").exists());
}

#[test]
fn what_netd_did_not_write_stays() {
    let world = World::new(&["web"]);
    let mut files = world.files("a");
    world.write("web", "nameserver 9.9.9.9\n");
    files.apply("web", None, Some(ONE)).unwrap();
    files.apply("web", Some(ONE), None).unwrap();
    assert_eq!(world.read("web").unwrap(), "nameserver 9.9.9.9\n");
    fs::remove_file(at(&world.root(), "web")).unwrap();
    fs::write(world.root().join("web/hosts"), "").unwrap();
    files.apply("web", None, Some(ONE)).unwrap();
    files.apply("web", Some(ONE), None).unwrap();
    assert!(world.root().join("web/hosts").exists() && world.read("web").is_none());
}

#[test]
fn the_daemon_that_wrote_it_keeps_it() {
    let world = World::new(&["web"]);
    let (mut first, mut second) = (world.files("a"), world.files("b"));
    first.apply("web", None, Some(ONE)).unwrap();
    second.apply("web", None, Some(TWO)).unwrap();
    assert!(world.read("web").unwrap().ends_with(ONE), "the second does not take it");
    second.apply("web", Some(TWO), None).unwrap();
    assert!(world.read("web").is_some(), "nor remove it");
    assert!(second.warned.contains("web"), "and it is said");
    // The same daemon, started again.
    world.files("a").apply("web", Some(ONE), None).unwrap();
    assert_eq!(world.read("web"), None);
    second.apply("web", Some(TWO), Some(TWO)).unwrap();
    assert!(world.read("web").unwrap().ends_with(TWO));
    // A file that describes a namespace that no longer exists has no owner.
    world.namespace("other");
    fs::rename(world.0.path().join("run/other"), world.0.path().join("run/web")).unwrap();
    first.apply("web", None, Some(ONE)).unwrap();
    assert!(world.read("web").unwrap().ends_with(ONE));
}

#[test]
fn files_of_earlier_releases_are_taken_over_and_removed_by_whom_they_describe() {
    let world = World::new(&["web"]);
    let mut files = world.files("a");
    let unsigned = format!("{MARKER}{ONE}");
    world.write("web", &unsigned);
    files.apply("web", Some(TWO), None).unwrap();
    assert_eq!(world.read("web").unwrap(), unsigned, "it says what another daemon would write");
    files.apply("web", Some(ONE), None).unwrap();
    assert_eq!(world.read("web"), None);
    world.write("web", &unsigned);
    files.apply("web", Some(TWO), Some(TWO)).unwrap();
    assert!(world.read("web").unwrap().contains(&format!("{SIGNATURE}a for ")));
}

#[test]
fn own_files_and_those_of_namespaces_that_are_gone_are_found() {
    let world = World::new(&["there", "gone"]);
    let mut files = world.files("a");
    for name in ["there", "gone"] {
        files.apply(name, None, Some(ONE)).unwrap();
    }
    fs::remove_file(world.0.path().join("run/gone")).unwrap();
    world.write("theirs", "nameserver 192.0.2.1\n");
    for (instance, names) in [("a", vec!["gone", "there"]), ("b", vec!["gone"])] {
        let mut written = world.files(instance).written();
        written.sort();
        assert_eq!(written, names);
    }
    world.files("b").apply("gone", None, None).unwrap();
    assert_eq!(world.read("gone"), None);
    assert!(Files::new(world.0.path().join("none"), world.0.path(), "boot").written().is_empty());
}

#[test]
fn prepared_links_lead_nowhere() {
    let world = World::new(&["web", "linked"]);
    let victim = world.0.path().join("victim");
    fs::write(&victim, "theirs").unwrap();
    fs::create_dir(world.root().join("web")).unwrap();
    // The draft name of earlier releases, as a hard link and as a symbolic link.
    fs::hard_link(&victim, world.root().join("web").join(EARLIER_DRAFT)).unwrap();
    let mut files = world.files("a");
    files.apply("web", None, Some(ONE)).unwrap();
    assert!(world.read("web").unwrap().ends_with(ONE));
    symlink(&victim, world.root().join("web").join(EARLIER_DRAFT)).unwrap();
    files.apply("web", Some(ONE), Some(TWO)).unwrap();
    assert!(world.read("web").unwrap().ends_with(TWO));
    files.apply("web", Some(TWO), None).unwrap();
    assert!(!world.root().join("web").exists(), "what was left behind goes as well");
    let elsewhere = world.0.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, world.root().join("linked")).unwrap();
    files.apply("linked", None, Some(ONE)).unwrap();
    files.apply("linked", Some(ONE), None).unwrap();
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert!(files.warned.contains("linked") && world.root().join("linked").exists());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
}
