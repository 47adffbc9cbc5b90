//! `/etc/netns/NAME/resolv.conf`: what `ip netns exec NAME` shows as `/etc/resolv.conf` (ip-netns(8)).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::KernelError;
use super::netlink::failed;

/// First line of every file that netd wrote; a file without it is somebody else's and stays as it is.
const MARKER: &str = "# Written by netd: it replaces and removes this file. Delete this line to keep the file.";
const LOOK: &str = "is /etc writable, and is there space left?";

/// Writes the file with this content below the marker, or removes it (`None`), for the namespace of that name below
/// `root` (`/etc/netns`). A file that netd did not write stays.
pub fn apply(root: &Path, netns: &str, content: Option<&str>) -> Result<(), KernelError> {
    let directory = root.join(netns);
    let file = directory.join("resolv.conf");
    match (theirs(&file), content) {
        (Err(error), _) => Err(failed("read", file.display(), LOOK)(error)),
        (Ok(true), _) => Ok(()),
        (Ok(false), Some(content)) => write(&directory, &file, content).map_err(failed("write", file.display(), LOOK)),
        (Ok(false), None) => remove(&directory, &file).map_err(failed("remove", file.display(), LOOK)),
    }
}

/// The names below `root` whose file netd wrote and whose namespace is not among `namespaces` (`/run/netns`) any more: a
/// daemon that is killed while it disconnects leaves them. Files for namespaces that are there may be another daemon's.
pub fn forgotten(root: &Path, namespaces: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let ours = |name: &String| {
        let file = root.join(name).join("resolv.conf");
        file.exists() && theirs(&file).is_ok_and(|theirs| !theirs)
    };
    names.filter(|name| !namespaces.join(name).exists()).filter(ours).collect()
}

/// Whether there is something that netd did not write. A link is, wherever it leads.
fn theirs(file: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(file) {
        Ok(metadata) if metadata.is_file() => {
            Ok(!fs::read(file)?.strip_prefix(MARKER.as_bytes()).is_some_and(|rest| rest.starts_with(b"\n")))
        }
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A reader sees the old file or the new one, never a part.
fn write(directory: &Path, file: &Path, content: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let draft: PathBuf = directory.join(".resolv.conf.netd");
    let written = File::create(&draft)
        .and_then(|mut to| writeln!(to, "{MARKER}").and_then(|()| to.write_all(content.as_bytes())))
        .and_then(|()| fs::rename(&draft, file));
    if written.is_err() {
        // What was to be reported is the failure before.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// The directory goes with the file when nothing else is in it.
fn remove(directory: &Path, file: &Path) -> io::Result<()> {
    for removed in [fs::remove_file(file), fs::remove_dir(directory)] {
        match removed {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_and_goes_with_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("web/resolv.conf");
        apply(root.path(), "web", Some("nameserver 10.77.0.1\n")).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{MARKER}\nnameserver 10.77.0.1\n"));
        apply(root.path(), "web", Some("nameserver 10.77.1.1\n")).unwrap();
        assert!(fs::read_to_string(&file).unwrap().ends_with("nameserver 10.77.1.1\n"));
        assert_eq!(fs::read_dir(root.path().join("web")).unwrap().count(), 1);
        apply(root.path(), "web", None).unwrap();
        apply(root.path(), "web", None).unwrap();
        assert!(!root.path().join("web").exists());
    }

    #[test]
    fn what_netd_did_not_write_stays() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("web");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("resolv.conf");
        fs::write(&file, "nameserver 9.9.9.9\n").unwrap();
        apply(root.path(), "web", Some("nameserver 10.77.0.1\n")).unwrap();
        apply(root.path(), "web", None).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 9.9.9.9\n");
        fs::remove_file(&file).unwrap();
        fs::write(directory.join("hosts"), "").unwrap();
        apply(root.path(), "web", Some("nameserver 10.77.0.1\n")).unwrap();
        apply(root.path(), "web", None).unwrap();
        assert!(directory.join("hosts").exists());
    }

    #[test]
    fn files_of_namespaces_that_are_gone_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (root, namespaces) = (folder.path().join("etc"), folder.path().join("run"));
        fs::create_dir_all(namespaces.join("there")).unwrap();
        for name in ["there", "gone"] {
            apply(&root, name, Some("nameserver 10.0.0.1\n")).unwrap();
        }
        fs::create_dir_all(root.join("theirs")).unwrap();
        fs::write(root.join("theirs/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(forgotten(&root, &namespaces), ["gone"]);
        assert!(forgotten(&folder.path().join("none"), &namespaces).is_empty());
    }
}
