//! The process of an OCI container that its runtime has prepared but not started: its network namespace, kept open so
//! that another one cannot be taken for it, and the files that cover those of its root file system.
//!
//! At that time the container's mounts are in its mount namespace, below the root file system's path, and the path of
//! the host still leads there (OCI runtime specification, `createRuntime`). Nothing is written on the host except empty
//! files and folders that the root file system lacks, as runtimes make them for their own mounts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, mkdirat};

use crate::kernel::netlink::socket::failed;
use crate::kernel::netns::open;
use crate::kernel::{KernelError, netns_of_process};
use crate::os::mounts;

/// Where the files that cover the container's are made, on a tmpfs that only one thread sees.
const WORKSHOP: &str = "/tmp";
/// Symbolic links of a path before it is taken for a loop, as the kernel's own limit.
const LINKS_MAX: usize = 40;
/// Larger than any resolv.conf and hosts of netd, in bytes.
const FILE_MAX: u64 = 1 << 20;
const LOOK: &str = "the annotation netd.files=keep leaves the container's own files";

/// A process and its namespaces. As long as this exists, no other network namespace has the same identity.
#[derive(Debug)]
pub struct Process {
    /// Its folder in `/proc`.
    folder: PathBuf,
    netns: PathBuf,
    held: File,
}

impl Process {
    /// The process with this id.
    pub fn new(pid: u32) -> Result<Self, KernelError> {
        let netns = netns_of_process(pid);
        let held = open(&netns)?;
        Ok(Self { folder: PathBuf::from(format!("/proc/{pid}")), netns, held })
    }

    /// The path of its network namespace.
    pub fn netns(&self) -> &Path {
        &self.netns
    }

    /// Whether that path still leads to the same namespace.
    pub fn is_there(&self) -> bool {
        same(self.held.metadata(), fs::metadata(&self.netns))
    }

    /// The names of the interfaces in its network namespace (proc_pid_net(5)).
    pub fn interfaces(&self) -> Result<Vec<String>, KernelError> {
        let path = self.folder.join("net/dev");
        let look = "does the process still run?";
        let text = fs::read_to_string(&path).map_err(failed("read", path.display(), look))?;
        // Two lines of headings, then "  eth0: 0 0 …".
        let name = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
        Ok(text.lines().skip(2).filter_map(name).collect())
    }

    /// Mounts these contents over files of the root file system, which are named by their paths in it. A file that has
    /// the content already is left alone.
    pub fn cover(&self, root: &Path, files: Vec<(&'static str, String)>) -> Result<(), KernelError> {
        let path = self.folder.join("ns/mnt");
        let on = path.display().to_string();
        let mounts = File::open(&path).map_err(failed("open mount namespace", &on, LOOK))?;
        if same(mounts.metadata(), fs::metadata("/proc/thread-self/ns/mnt")) {
            let why = io::Error::other("it is the host's own, which the files would cover as well");
            return Err(failed("enter mount namespace", on, LOOK)(why));
        }
        let root = root.to_owned();
        // The thread ends in the container's mount namespace.
        let visitor =
            thread::Builder::new().name("mounts-visit".into()).spawn(move || in_container(&mounts, &root, &files));
        let joined = |thread: thread::JoinHandle<io::Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside panicked")))
        };
        visitor.and_then(joined).map_err(failed("cover files of the container of", on, LOOK))
    }
}

fn same(one: io::Result<fs::Metadata>, other: io::Result<fs::Metadata>) -> bool {
    let identity = |found: io::Result<fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
    let one = identity(one);
    one.is_some() && one == identity(other)
}

fn in_container(mounts: &File, root: &Path, files: &[(&'static str, String)]) -> io::Result<()> {
    // Private mounts: nothing of what follows is seen outside of this thread, except in the container.
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("netd"), WORKSHOP, Some("tmpfs"), safe, Some("mode=0755,size=4m"))?;
    let mut covers = Vec::new();
    for (number, (path, content)) in files.iter().enumerate() {
        let file = Path::new(WORKSHOP).join(number.to_string());
        fs::write(&file, content)?;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        covers.push((path, content, mounts::detached(&file)?));
    }
    setns(mounts, CloneFlags::CLONE_NEWNS)?;
    let root = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root);
    let root = root.map(OwnedFd::from).map_err(at("the root file system"))?;
    for (path, content, cover) in covers {
        let target = target(&root, Path::new(path)).map_err(at(path))?;
        if !has(&root, path, content) {
            mounts::attach(cover, target).map_err(at(path))?;
        }
    }
    Ok(())
}

/// Adds the path to an error.
fn at(path: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// Opens a path, which no `..` and no link leads out of the root file system.
fn within(root: &OwnedFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let mode = if flags.contains(OFlag::O_CREAT) { Mode::from_bits_truncate(0o644) } else { Mode::empty() };
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    openat2(root.as_fd(), path, how)
}

/// The file to cover: what the path leads to, made empty if it is not there.
fn target(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut place = path.strip_prefix("/").unwrap_or(path).to_owned();
    for _ in 0..LINKS_MAX {
        match within(root, &place, OFlag::O_PATH) {
            Ok(file) if File::from(file.try_clone()?).metadata()?.is_file() => return Ok(file),
            Ok(_) => return Err(io::Error::other("it is not a file")),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        // Either the path ends at a link to nowhere, or it does not exist.
        let folder = place.parent().unwrap_or(Path::new("")).to_owned();
        let above = make_folders(root, &folder)?;
        match readlinkat(&above, place.file_name().unwrap_or_default()) {
            // Its own root is the root file system.
            Ok(link) => match Path::new(&link).strip_prefix("/") {
                Ok(absolute) => place = absolute.to_owned(),
                Err(_) => place = folder.join(link),
            },
            Err(_) => drop(within(root, &place, OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY)?),
        }
    }
    Err(Errno::ELOOP.into())
}

/// Opens a folder, after making those on the way that are not there.
fn make_folders(root: &OwnedFd, folder: &Path) -> io::Result<OwnedFd> {
    let open = |path: &Path| within(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY);
    let mut place = PathBuf::from(".");
    let mut above = open(&place)?;
    for part in folder.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir)) {
        place.push(part);
        above = match open(&place) {
            Err(Errno::ENOENT) => {
                mkdirat(&above, part.as_os_str(), Mode::from_bits_truncate(0o755))?;
                open(&place)?
            }
            opened => opened?,
        };
    }
    Ok(above)
}

fn has(root: &OwnedFd, path: &str, content: &str) -> bool {
    let mut text = String::new();
    let file = within(root, Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK).map(File::from);
    file.is_ok_and(|file| file.take(FILE_MAX).read_to_string(&mut text).is_ok()) && text == content
}
