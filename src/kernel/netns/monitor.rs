//! Reports when a network namespace is no longer at its path: the file of a named one was deleted, or the process that
//! it belonged to has ended. Link notifications do not report this, because the interfaces stay as long as the
//! namespace, and the namespace stays as long as the name service has sockets in it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use crate::kernel::netlink::socket::failed;
use crate::kernel::{KernelError, KernelEvent, Tell, netns};
use crate::model::endpoint::Netns;
use crate::os::sys;

/// The key of the folders; processes have other keys.
const FOLDERS: u64 = 0;
/// How many events are read at once.
const EVENTS: usize = 16;

/// A thread that waits for namespaces to end, for as long as the process lives.
#[derive(Clone)]
pub struct NetnsWatch(Arc<Shared>);

struct Shared {
    epoll: Epoll,
    inotify: Inotify,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    spaces: BTreeMap<PathBuf, Space>,
    /// The folder of each watch, and how many watched namespaces are in it.
    folders: BTreeMap<WatchDescriptor, (PathBuf, usize)>,
    last_key: u64,
}

struct Space {
    netns: Netns,
    by: By,
}

/// How the end of a namespace is noticed.
enum By {
    /// Its file is deleted from a folder.
    Folder(WatchDescriptor),
    /// Its process ends: then the descriptor becomes readable. It is watched until it is closed.
    Process { key: u64, _pidfd: OwnedFd },
}

impl std::fmt::Debug for NetnsWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetnsWatch").finish_non_exhaustive()
    }
}

impl NetnsWatch {
    /// Starts the thread, without any watch yet.
    pub fn start(tell: Tell) -> Result<Self, KernelError> {
        let started = || -> io::Result<Self> {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            epoll.add(&inotify, EpollEvent::new(EpollFlags::EPOLLIN, FOLDERS))?;
            let shared = Arc::new(Shared { epoll, inotify, watched: Mutex::default() });
            let waiting = shared.clone();
            std::thread::Builder::new().name("netns-watch".into()).spawn(move || waiting.wait(&tell))?;
            Ok(Self(shared))
        };
        started().map_err(failed("watch", "network namespaces", "see `ulimit -n` and fs.inotify.max_user_instances"))
    }

    /// Watches a namespace from now on. Returns false, and watches nothing, if it has already ended.
    pub fn add(&self, netns: &Netns) -> Result<bool, KernelError> {
        let look = "see `ulimit -n` and fs.inotify.max_user_watches";
        self.0.add(netns).map_err(failed("watch the namespace", netns.path.display(), look))?;
        let there = !netns::is_gone(netns);
        if !there {
            self.remove(netns);
        }
        Ok(there)
    }

    /// Stops watching it.
    pub fn remove(&self, netns: &Netns) {
        self.0.remove(&mut self.0.lock(), &netns.path);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        // No code that holds the lock can panic.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, netns: &Netns) -> io::Result<()> {
        let mut watched = self.lock();
        self.remove(&mut watched, &netns.path);
        let by = match process(&netns.path) {
            Some((id, is_thread)) => {
                watched.last_key += 1;
                let key = watched.last_key;
                let pidfd = if is_thread { sys::thread_pidfd(id)? } else { sys::pidfd(id)? };
                self.epoll.add(&pidfd, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
                By::Process { key, _pidfd: pidfd }
            }
            None => {
                let folder = netns.path.parent().unwrap_or(Path::new("/"));
                let flags = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_ONLYDIR;
                let watch = self.inotify.add_watch(folder, flags)?;
                watched.folders.entry(watch).or_insert_with(|| (folder.to_owned(), 0)).1 += 1;
                By::Folder(watch)
            }
        };
        watched.spaces.insert(netns.path.clone(), Space { netns: netns.clone(), by });
        Ok(())
    }

    fn remove(&self, watched: &mut Watched, path: &Path) {
        let Some(Space { by: By::Folder(watch), .. }) = watched.spaces.remove(path) else { return };
        let Some((_, count)) = watched.folders.get_mut(&watch) else { return };
        *count -= 1;
        if *count == 0 {
            watched.folders.remove(&watch);
            // The watch was removed with the folder.
            let _ = self.inotify.rm_watch(watch);
        }
    }

    fn wait(&self, tell: &Tell) {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "no longer told about network namespaces that go");
                    return;
                }
            };
            let paths: Vec<PathBuf> = events[..count].iter().flat_map(|event| self.concerned(event.data())).collect();
            for path in paths {
                if self.is_gone(&path) {
                    // Called without the lock: the callee may be waiting for it.
                    tell(KernelEvent::NetnsGone(path));
                }
            }
        }
    }

    /// The paths of the namespaces that an event may concern.
    fn concerned(&self, key: u64) -> Vec<PathBuf> {
        let watched = self.lock();
        if key != FOLDERS {
            let is = |space: &Space| matches!(&space.by, By::Process { key: own, .. } if *own == key);
            return watched.spaces.iter().filter(|(_, space)| is(space)).map(|(path, _)| path.clone()).collect();
        }
        // Fails if another event already consumed them.
        let events = self.inotify.read_events().unwrap_or_default();
        let mut paths = Vec::new();
        for event in events {
            match (event.name, watched.folders.get(&event.wd)) {
                (Some(name), Some((folder, _))) => paths.push(folder.join(name)),
                // The folder itself was removed, or events were lost.
                _ => paths.extend(watched.spaces.keys().cloned()),
            }
        }
        paths
    }

    /// Whether the watched namespace is no longer at its path; if so, the watch is removed.
    fn is_gone(&self, path: &Path) -> bool {
        let mut watched = self.lock();
        let gone = watched.spaces.get(path).is_some_and(|space| netns::is_gone(&space.netns));
        if gone {
            self.remove(&mut watched, path);
        }
        gone
    }
}

/// The process or thread whose namespace the path is: `/proc/PID/ns/net`, `/proc/PID/task/TID/ns/net`.
fn process(path: &Path) -> Option<(u32, bool)> {
    let words: Vec<&str> = path.to_str()?.strip_prefix("/proc/")?.split('/').collect();
    match words.as_slice() {
        [pid, "ns", "net"] => Some((pid.parse().ok()?, false)),
        [_, "task", thread, "ns", "net"] => Some((thread.parse().ok()?, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    use super::*;
    use crate::kernel::testing::lab::Parked;

    fn watch() -> (NetnsWatch, Receiver<KernelEvent>) {
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let told_by = move |event| tell.lock().unwrap().send(event).unwrap();
        (NetnsWatch::start(Arc::new(told_by)).unwrap(), told)
    }

    fn next(told: &Receiver<KernelEvent>) -> KernelEvent {
        told.recv_timeout(Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn the_end_of_a_thread_or_process_is_told() {
        let (watch, told) = watch();
        let container = Parked::new();
        let netns = netns::identify(&container.path).unwrap();
        assert!(watch.add(&netns).unwrap());
        let _pinned = File::open(&container.path).unwrap();
        drop(container);
        assert_eq!(next(&told), KernelEvent::NetnsGone(netns.path.clone()));
        assert!(!watch.add(&netns).unwrap_or(false), "it is gone");
    }

    #[test]
    fn the_deletion_of_a_named_one_is_told_and_that_of_others_is_not() {
        let (watch, told) = watch();
        let folder = tempfile::tempdir().unwrap();
        let container = Parked::new();
        let names = ["one", "two"].map(|name| folder.path().join(name));
        for name in &names {
            File::create(name).unwrap();
            mount(Some(&container.path), name, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        }
        let spaces = names.each_ref().map(|name| netns::identify(name).unwrap());
        for space in &spaces {
            assert!(watch.add(space).unwrap());
        }
        File::create(folder.path().join("other")).unwrap();
        std::fs::remove_file(folder.path().join("other")).unwrap();
        watch.remove(&spaces[0]);
        for name in &names {
            umount2(name, MntFlags::MNT_DETACH).unwrap();
            std::fs::remove_file(name).unwrap();
        }
        assert_eq!(next(&told), KernelEvent::NetnsGone(names[1].clone()), "the first is not watched any more");
    }
}
