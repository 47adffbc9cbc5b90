//! Finds a network namespace whose path is gone, by whatever still holds it: a process in it, a mount of it, or an open
//! descriptor of it. `/proc` is read at most once in a while, because many containers may end together.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::deadline::Deadline;
use crate::kernel::netns::alive;
use crate::model::endpoint::Netns;

/// How long a search is used. A namespace that nothing holds stays so: only a holder can give it to another process.
const FRESH: Duration = Duration::from_millis(200);

/// What holds which namespace, as of the last search.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Holders {
    /// Inode of the namespace to a path that leads to it.
    paths: HashMap<u64, PathBuf>,
    until: Option<Deadline>,
}

impl Holders {
    /// The namespace at another path; `None` if no process, mount or descriptor holds it.
    pub(in crate::kernel) fn find(&mut self, netns: &Netns) -> Option<Netns> {
        if let Some(found) = self.fresh().then(|| self.known(netns)).flatten() {
            return Some(found);
        }
        // One that was found may have ended since, and another may hold it.
        if !self.fresh() || self.paths.contains_key(&netns.id.inode) {
            self.paths = search();
            self.until = Some(Deadline::after(FRESH));
        }
        self.known(netns)
    }

    fn fresh(&self) -> bool {
        self.until.is_some_and(|until| until.remaining().is_some())
    }

    fn known(&self, netns: &Netns) -> Option<Netns> {
        let found = Netns { path: self.paths.get(&netns.id.inode)?.clone(), id: netns.id };
        alive(&found).then_some(found)
    }
}

/// Every namespace that something holds, by its inode. Processes come first: their paths say best who it is.
pub(in crate::kernel) fn search() -> HashMap<u64, PathBuf> {
    let mut found = HashMap::new();
    let processes = processes();
    for process in &processes {
        let path = process.join("ns/net");
        if let Some(inode) = fs::read_link(&path).ok().and_then(|link| number(&link)) {
            found.entry(inode).or_insert(path);
        }
    }
    let mut seen = HashSet::new();
    for process in &processes {
        // The mounts of one process for each mount namespace.
        if let Ok(namespace) = fs::read_link(process.join("ns/mnt"))
            && seen.insert(namespace)
        {
            mounts(process, &mut found);
        }
    }
    let own = PathBuf::from(format!("/proc/{}", std::process::id()));
    for process in processes.iter().filter(|process| **process != own) {
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        for descriptor in descriptors {
            if let Some(inode) = fs::read_link(descriptor.path()).ok().and_then(|link| number(&link)) {
                found.entry(inode).or_insert_with(|| descriptor.path());
            }
        }
    }
    found
}

fn processes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_process)).map(|entry| entry.path()).collect()
}

/// The namespaces that are mounted where the process sees them (proc_pid_mountinfo(5)).
fn mounts(process: &Path, found: &mut HashMap<u64, PathBuf>) {
    let Ok(text) = fs::read_to_string(process.join("mountinfo")) else { return };
    for line in text.lines() {
        let mut words = line.split(' ').skip(3);
        let (Some(root), Some(point)) = (words.next(), words.next()) else { continue };
        if let Some(inode) = number(Path::new(root)) {
            let point = unescaped(point);
            found.entry(inode).or_insert_with(|| process.join("root").join(point.trim_start_matches('/')));
        }
    }
}

/// "net:[4026531840]".
fn number(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Blanks and backslashes are written in octal: "\040".
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::kernel::netns::identify;
    use crate::kernel::testing::lab::Parked;
    use crate::model::ids::NetnsId;

    fn lost(container: &Parked) -> Netns {
        Netns { path: "/no/such/path".into(), ..identify(&container.path).unwrap() }
    }

    #[test]
    fn it_is_found_by_a_descriptor_as_long_as_one_is_open() {
        let container = Parked::new();
        let netns = lost(&container);
        let held = File::open(&container.path).unwrap();
        drop(container);
        let mut other = std::process::Command::new("sleep").arg("60").stdin(held).spawn().unwrap();
        let mut holders = Holders::default();
        let found = holders.find(&netns).unwrap();
        assert_eq!(found.path, Path::new(&format!("/proc/{}/fd/0", other.id())));
        assert_eq!(holders.find(&netns), Some(found), "again, from the same search");
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(holders.find(&netns), None, "nothing holds it");
        assert_eq!(holders.find(&netns), None, "nor later");
    }

    /// The kernel uses the inode number of a namespace that has ended for the next one, which may be a stranger's.
    #[test]
    fn another_namespace_with_its_number_is_not_it() {
        let container = Parked::new();
        let netns = lost(&container);
        let before =
            Netns { id: NetnsId { cookie: netns.id.cookie.map(|cookie| cookie + 1), ..netns.id }, ..netns.clone() };
        let held = File::open(&container.path).unwrap();
        let mut other = std::process::Command::new("sleep").arg("60").stdin(held).spawn().unwrap();
        let found = [&netns, &before].map(|netns| Holders::default().find(netns).is_some());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(found, [true, false]);
    }

    #[test]
    fn the_mounts_of_a_process_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let line = "36 35 0:4 net:[4026532001] /run/netns/a\\040b rw shared:1 - nsfs nsfs rw\n\
                    37 35 8:1 / /home rw - ext4 /dev/sda1 rw\n";
        std::fs::write(folder.path().join("mountinfo"), line).unwrap();
        let mut found = HashMap::new();
        mounts(folder.path(), &mut found);
        assert_eq!(found, [(4_026_532_001, folder.path().join("root/run/netns/a b"))].into());
    }

    #[test]
    fn links_and_mounts_are_read() {
        assert_eq!(number(Path::new("net:[4026531840]")), Some(4_026_531_840));
        assert_eq!(number(Path::new("mnt:[4026531840]")), None);
        assert_eq!(unescaped("/run/a\\040b\\134c"), "/run/a b\\c");
    }
}
