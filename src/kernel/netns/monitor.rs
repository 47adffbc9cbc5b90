//! Reports when a network namespace is no longer at its path: the file of a named one was deleted, or the process that
//! it belonged to has ended. Link notifications do not report this, because the interfaces stay as long as the
//! namespace, and the namespace stays as long as the name service has sockets in it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use crate::kernel::monitor::{Monitor, Running, start};
use crate::kernel::netlink::socket::failed;
use crate::kernel::{KernelError, KernelEvent, Tell, netns};
use crate::model::endpoint::Netns;
use crate::os::sys;

/// The keys of the stop and of the folders; processes have the keys above these.
const STOP: u64 = 0;
const FOLDERS: u64 = 1;
/// How many events are read at once.
const EVENTS: usize = 16;

/// A monitor that waits for namespaces to end; it runs until this is dropped.
pub struct NetnsWatch {
    watched: Arc<Mutex<Watched>>,
    _running: Running,
}

/// Where the kernel reports the ends of namespaces.
struct Source {
    epoll: Epoll,
    inotify: Inotify,
}

struct Watched {
    /// Replaced when the monitor is started again.
    source: Option<Arc<Source>>,
    spaces: BTreeMap<PathBuf, Space>,
    /// The folder of each watch, and how many watched namespaces are in it.
    folders: BTreeMap<WatchDescriptor, (PathBuf, usize)>,
    last_key: u64,
}

impl Default for Watched {
    fn default() -> Self {
        Self { source: None, spaces: BTreeMap::new(), folders: BTreeMap::new(), last_key: FOLDERS }
    }
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
    /// Not at all as yet: the monitor does not run, and watches it when it runs again.
    Nothing,
}

impl std::fmt::Debug for NetnsWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetnsWatch").finish_non_exhaustive()
    }
}

impl NetnsWatch {
    /// Starts the monitor, without any watch yet.
    pub fn start(tell: Tell) -> Result<Self, KernelError> {
        let watched: Arc<Mutex<Watched>> = Arc::default();
        let running = start(Namespaces(watched.clone()), tell).map_err(failed(
            "watch",
            "network namespaces",
            "see `ulimit -n` and fs.inotify.max_user_instances",
        ))?;
        Ok(Self { watched, _running: running })
    }

    /// Watches a namespace from now on. Returns false, and watches nothing, if it has already ended.
    pub fn add(&self, netns: &Netns) -> Result<bool, KernelError> {
        let look = "see `ulimit -n` and fs.inotify.max_user_watches";
        lock(&self.watched).add(netns).map_err(failed("watch the namespace", netns.path.display(), look))?;
        let there = !netns::is_gone(netns);
        if !there {
            self.remove(netns);
        }
        Ok(there)
    }

    /// Stops watching it.
    pub fn remove(&self, netns: &Netns) {
        lock(&self.watched).remove(&netns.path);
    }
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    // No code that holds the lock leaves it half changed when it panics.
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    fn add(&mut self, netns: &Netns) -> io::Result<()> {
        self.remove(&netns.path);
        let by = self.source.clone().map_or(Ok(By::Nothing), |source| self.watch(&source, &netns.path))?;
        self.spaces.insert(netns.path.clone(), Space { netns: netns.clone(), by });
        Ok(())
    }

    fn watch(&mut self, source: &Source, path: &Path) -> io::Result<By> {
        if let Some((id, is_thread)) = process(path) {
            self.last_key += 1;
            let key = self.last_key;
            let pidfd = if is_thread { sys::thread_pidfd(id)? } else { sys::pidfd(id)? };
            source.epoll.add(&pidfd, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
            return Ok(By::Process { key, _pidfd: pidfd });
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let flags = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_ONLYDIR;
        let watch = source.inotify.add_watch(folder, flags)?;
        self.folders.entry(watch).or_insert_with(|| (folder.to_owned(), 0)).1 += 1;
        Ok(By::Folder(watch))
    }

    fn remove(&mut self, path: &Path) {
        let Some(Space { by: By::Folder(watch), .. }) = self.spaces.remove(path) else { return };
        let Some((_, count)) = self.folders.get_mut(&watch) else { return };
        *count -= 1;
        if *count == 0 {
            self.folders.remove(&watch);
            // The watch was removed with the folder.
            let _ = self.source.as_ref().map(|source| source.inotify.rm_watch(watch));
        }
    }

    /// Forgets the source: namespaces that are added from now on are watched when there is a new one.
    fn unplug(&mut self) {
        self.source = None;
        self.folders.clear();
        self.spaces.values_mut().for_each(|space| space.by = By::Nothing);
    }

    /// Watches every namespace through this source. One that has ended remains unwatched: the engine looks at
    /// everything when the monitor runs again.
    fn plug(&mut self, source: Arc<Source>) -> io::Result<()> {
        self.unplug();
        let all: Vec<Netns> = self.spaces.values().map(|space| space.netns.clone()).collect();
        for netns in all {
            match self.watch(&source, &netns.path) {
                Ok(by) => _ = self.spaces.insert(netns.path.clone(), Space { netns, by }),
                Err(_) if netns::is_gone(&netns) => {}
                Err(error) => return Err(error),
            }
        }
        self.source = Some(source);
        Ok(())
    }

    /// The paths of the namespaces that an event may concern.
    fn concerned(&self, source: &Source, key: u64) -> io::Result<Vec<PathBuf>> {
        if key != FOLDERS {
            let is = |space: &Space| matches!(&space.by, By::Process { key: own, .. } if *own == key);
            return Ok(self.spaces.iter().filter(|(_, space)| is(space)).map(|(path, _)| path.clone()).collect());
        }
        let events = match source.inotify.read_events() {
            // Another event already consumed them.
            Err(Errno::EAGAIN | Errno::EINTR) => Vec::new(),
            events => events?,
        };
        let mut paths = Vec::new();
        for event in events {
            match (event.name, self.folders.get(&event.wd)) {
                (Some(name), Some((folder, _))) => paths.push(folder.join(name)),
                // The folder itself was removed, or events were lost.
                _ => paths.extend(self.spaces.keys().cloned()),
            }
        }
        Ok(paths)
    }

    /// Whether the watched namespace is no longer at its path; if so, the watch is removed. Fails if that cannot be found
    /// out now: the monitor then pauses and starts anew, and the engine looks at everything.
    fn is_gone(&mut self, path: &Path) -> Result<bool, KernelError> {
        let gone = match self.spaces.get(path) {
            Some(space) => !netns::exists(&space.netns)?,
            None => false,
        };
        if gone {
            self.remove(path);
        }
        Ok(gone)
    }
}

/// The monitor.
struct Namespaces(Arc<Mutex<Watched>>);

impl Monitor for Namespaces {
    type Source = Arc<Source>;
    const NAME: &'static str = "namespace";

    fn subscribe(&mut self) -> io::Result<Arc<Source>> {
        let mut watched = lock(&self.0);
        // Closes the former descriptors before others are opened.
        watched.unplug();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        epoll.add(&inotify, EpollEvent::new(EpollFlags::EPOLLIN, FOLDERS))?;
        let source = Arc::new(Source { epoll, inotify });
        watched.plug(source.clone())?;
        Ok(source)
    }

    fn listen(&mut self, source: &mut Arc<Source>, stop: BorrowedFd<'_>, tell: &Tell) -> io::Result<()> {
        let end = self.report(source, stop, tell);
        lock(&self.0).unplug();
        end
    }
}

impl Namespaces {
    fn report(&self, source: &Source, stop: BorrowedFd<'_>, tell: &Tell) -> io::Result<()> {
        source.epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = match source.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                count => count?,
            };
            for key in events[..count].iter().map(EpollEvent::data) {
                if key == STOP {
                    return Ok(());
                }
                let mut watched = lock(&self.0);
                let mut gone = Vec::new();
                let mut outcome = Ok(());
                for path in watched.concerned(source, key)? {
                    match watched.is_gone(&path) {
                        Ok(true) => gone.push(path),
                        Ok(false) => {}
                        Err(error) => outcome = Err(io::Error::other(error)),
                    }
                }
                drop(watched);
                // Called without the lock: the callee may be waiting for it.
                gone.into_iter().for_each(|path| tell(KernelEvent::NetnsGone(path)));
                outcome?;
            }
        }
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

    /// One lack of descriptors during a new start, and the namespaces behind that one were never watched again.
    #[test]
    fn a_new_start_that_fails_forgets_no_namespace() {
        let watched: Arc<Mutex<Watched>> = Arc::default();
        let containers = [Parked::new(), Parked::new()];
        let spaces = containers.each_ref().map(|container| netns::identify(&container.path).unwrap());
        let mut monitor = Namespaces(watched.clone());
        monitor.subscribe().unwrap();
        for space in &spaces {
            lock(&watched).add(space).unwrap();
        }
        // Nothing can be added to it.
        let epoll = Epoll(File::open("/dev/null").unwrap().into());
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
        lock(&watched).plug(Arc::new(Source { epoll, inotify })).unwrap_err();
        assert_eq!(lock(&watched).spaces.len(), 2, "all are watched by the next start");
    }

    #[test]
    fn a_new_start_watches_the_same_namespaces() {
        let watched: Arc<Mutex<Watched>> = Arc::default();
        let (before, after) = (Parked::new(), Parked::new());
        let gone = netns::identify(&before.path).unwrap();
        let there = netns::identify(&after.path).unwrap();
        let mut monitor = Namespaces(watched.clone());
        monitor.subscribe().unwrap();
        lock(&watched).add(&gone).unwrap();
        lock(&watched).unplug();
        lock(&watched).add(&there).unwrap();
        drop(before);
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let tell: Tell = Arc::new(move |event| tell.lock().unwrap().send(event).unwrap_or(()));
        let _running = start(monitor, tell).unwrap();
        drop(after);
        assert_eq!(next(&told), KernelEvent::NetnsGone(there.path.clone()), "it was added during the pause");
        assert!(!lock(&watched).spaces.contains_key(&there.path));
    }
}
