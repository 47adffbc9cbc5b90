//! Network namespaces: identity, existence, and jobs on a thread that enters a namespace and ends there.

pub mod connecting;
pub(super) mod engines;
pub(in crate::kernel) mod find;
pub mod listening;
pub mod monitor;
pub mod oci;
pub mod sandbox;
pub mod wire;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread::{Builder, JoinHandle};

use netlink_packet_route::RouteNetlinkMessage;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::fstatfs;
use rtnetlink::LinkUnspec;

use super::KernelError;
use super::netlink::socket::{Netlink, Request};
use crate::model::endpoint::Netns;
use crate::model::ids::NetnsId;
use crate::os::sys;

/// The index of `lo`, the first interface of every namespace (`LOOPBACK_IFINDEX`, linux/if.h).
const LOOPBACK: u32 = 1;
/// `NSFS_MAGIC` (linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// Bytes; the thread writes a few small files and opens sockets.
const VISITOR_STACK: usize = 256 << 10;

fn none(path: &Path, why: impl std::fmt::Display) -> KernelError {
    KernelError::NoNetns { path: path.to_owned(), why: why.to_string() }
}

/// Interprets an error at the path: there is no namespace, unless the error is only a temporary lack of resources. That
/// says nothing about the namespace, so it must not lead to its release.
fn failed_at(path: &Path, error: io::Error) -> KernelError {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN | libc::EINTR) => {
            KernelError::Io {
                attempted: "open network namespace",
                on: path.display().to_string(),
                source: error,
                look: "see `ulimit -n`, `ulimit -u` and `free`",
            }
        }
        _ => none(path, error),
    }
}

/// Opens the namespace file at the path. Fails with `NoNetns` if there is no namespace.
fn open(path: &Path) -> Result<File, KernelError> {
    // Non-blocking: the path may be any file, and opening a fifo without a writer would block here.
    let options = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = options.map_err(|error| failed_at(path, error))?;
    let kind = fstatfs(&file).map_err(|error| failed_at(path, error.into()))?;
    if kind.filesystem_type().0 as i64 != NSFS_MAGIC {
        return Err(none(path, "the file is not a namespace (any more)"));
    }
    match sys::namespace_type(&file) {
        Ok(libc::CLONE_NEWNET) => Ok(file),
        Ok(_) => Err(none(path, "it is a namespace of another type")),
        Err(error) => Err(failed_at(path, error)),
    }
}

/// Device and inode of an open namespace file.
fn inode(file: &File, path: &Path) -> Result<(u64, u64), KernelError> {
    let metadata = file.metadata().map_err(|error| failed_at(path, error))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The namespace of the process, whichever thread asks: no thread that enters another one is its first.
const OWN: &str = "/proc/self/ns/net";

/// Identifies the namespace at the path. netd's own namespace is refused: it is the host, not a container.
pub fn identify(path: &Path) -> Result<Netns, KernelError> {
    let file = open(path)?;
    let own = Path::new(OWN);
    if inode(&file, path)? == inode(&open(own)?, own)? {
        return Err(none(path, "it is the host's own, not a container's"));
    }
    identity(file, path)
}

/// Identifies netd's own namespace.
pub fn own() -> Result<Netns, KernelError> {
    let path = Path::new(OWN);
    identity(open(path)?, path)
}

fn identity(file: File, path: &Path) -> Result<Netns, KernelError> {
    let (device, inode_number) = inode(&file, path)?;
    let cookie = visit(file, || Netlink::open().map(|socket| sys::netns_cookie(&socket)));
    let cookie = cookie.and_then(Visit::end).map_err(|error| failed_at(path, error))?;
    Ok(Netns { path: path.to_owned(), id: NetnsId { device, inode: inode_number, cookie } })
}

/// Opens exactly that namespace. Device and inode are compared here; the cookie is compared when the visit has a socket
/// inside ([`same_cookie`]).
pub fn open_exactly(netns: &Netns) -> Result<File, KernelError> {
    let file = open(&netns.path)?;
    if inode(&file, &netns.path)? != (netns.id.device, netns.id.inode) {
        return Err(another(netns));
    }
    Ok(file)
}

/// Whether that very namespace is no longer at its path. Not so for one that cannot be opened for now.
pub fn is_gone(netns: &Netns) -> bool {
    matches!(exists(netns), Ok(false))
}

/// Whether that very namespace is at its path. Fails if it cannot be opened for now.
pub fn exists(netns: &Netns) -> Result<bool, KernelError> {
    match open_exactly(netns) {
        Ok(_) => Ok(true),
        Err(KernelError::NoNetns { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The error for a different namespace at the path.
pub fn another(netns: &Netns) -> KernelError {
    none(&netns.path, "another network namespace is there now")
}

/// Whether a socket in the namespace reports the cookie that the namespace had, as far as both are known.
pub fn same_cookie(netns: &Netns, socket: impl AsFd) -> bool {
    match (netns.id.cookie, sys::netns_cookie(socket)) {
        (Some(then), Some(now)) => then == now,
        _ => true,
    }
}

/// Whether that very namespace is still at its path. A namespace that cannot be checked for now counts as alive.
pub fn alive(netns: &Netns) -> bool {
    let file = match open_exactly(netns) {
        Ok(file) => file,
        Err(error) => return !matches!(error, KernelError::NoNetns { .. }),
    };
    if netns.id.cookie.is_none() {
        return true;
    }
    let socket = visit(file, Netlink::open).and_then(Visit::end);
    // A namespace that cannot be entered for lack of memory or threads exists all the same.
    socket.map_or(true, |socket| same_cookie(netns, &socket))
}

/// Brings up the loopback interface of the calling thread's namespace.
pub(in crate::kernel) fn raise_loopback() -> io::Result<()> {
    let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
    Ok(Netlink::open()?.all(&[Request::plain(RouteNetlinkMessage::SetLink(up))])?)
}

/// A running job on a thread in a namespace.
pub struct Visit<T>(JoinHandle<io::Result<T>>);

impl<T> Visit<T> {
    /// Waits for the result.
    pub fn end(self) -> io::Result<T> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
    }
}

/// Enters the namespace on a separate thread and runs the job there. The thread never returns to the former namespace:
/// if returning failed, it would continue in the wrong one.
pub fn visit<T: Send + 'static>(
    namespace: File,
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<Visit<T>> {
    let thread = Builder::new().name("netns-visit".into()).stack_size(VISITOR_STACK).spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        job()
    })?;
    Ok(Visit(thread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::lab::Parked;

    /// A daemon without free descriptors once took all containers for ended.
    #[test]
    fn what_the_machine_lacks_for_now_does_not_make_a_namespace_go() {
        let path = Path::new("/run/netns/web");
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN] {
            let error = failed_at(path, io::Error::from_raw_os_error(code));
            assert!(matches!(error, KernelError::Io { .. }), "{error}");
            assert!(error.to_string().starts_with("open network namespace /run/netns/web: "), "{error}");
        }
        for code in [libc::ENOENT, libc::ENOTDIR, libc::EACCES, libc::ESTALE] {
            let error = failed_at(path, io::Error::from_raw_os_error(code));
            assert!(matches!(error, KernelError::NoNetns { .. }), "{error}");
        }
    }

    #[test]
    fn a_namespace_is_known_by_more_than_its_path() {
        let container = Parked::new();
        let netns = identify(&container.path).unwrap();
        assert!(netns.id.cookie.is_some());
        assert!(alive(&netns));
        let mut other = netns.clone();
        other.id.cookie = Some(1);
        assert!(!alive(&other), "same inode, another namespace");
        other.id = NetnsId { inode: netns.id.inode + 1, ..netns.id };
        assert!(!alive(&other));
        drop(container);
        assert!(!alive(&netns));
    }

    #[test]
    fn what_is_no_network_namespace_is_refused() {
        for (path, why) in [
            ("/proc/self/ns/mnt", "another type"),
            ("/dev/null", "not a namespace"),
            ("/no/such/file", "No such file"),
            ("/proc/self/ns/net", "the host's own"),
        ] {
            let error = identify(Path::new(path)).unwrap_err().to_string();
            assert!(error.starts_with("no network namespace at /") && error.contains(why), "{error}");
        }
    }
}
