//! The API's unix socket and its file: no client can connect before owner, group and mode are set, and the file is
//! removed when the daemon ends or fails to start. A socket that the service manager gave (socket activation) stays with it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::sockopt::AcceptConn;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_to, connect, getsockname, getsockopt, listen,
    socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Group, chown};

use crate::base::private;

/// Who may connect to the daemon: owner and group, or everyone.
const CLOSED: u32 = 0o660;
const OPEN: u32 = 0o666;
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The listening socket and its file.
#[derive(Debug)]
pub(super) struct ApiSocket {
    pub(super) listener: UnixListener,
    /// `None` if the service manager gave it.
    pub(super) file: Option<SocketFile>,
}

/// Who may connect.
#[derive(Debug, Clone, Copy)]
pub(super) struct SocketAccess {
    pub(super) group: Option<u32>,
    pub(super) everyone: bool,
}

/// The id of a group; `None` if there is none of that name.
pub(super) fn group(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

impl SocketAccess {
    fn open(self, path: &Path) -> io::Result<()> {
        if let Some(group) = self.group {
            chown(path, None, Some(Gid::from_raw(group)))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(if self.everyone { OPEN } else { CLOSED }))
    }
}

/// Uses the listening socket that the service manager gave, which must be at the path.
pub(super) fn given(descriptor: OwnedFd, path: &Path, access: SocketAccess) -> io::Result<ApiSocket> {
    let address: UnixAddr = getsockname(descriptor.as_raw_fd())?;
    if address.path() != Some(path) || !getsockopt(&descriptor, AcceptConn)? {
        let at = address.path().map_or("no path".to_owned(), |path| path.display().to_string());
        let why = format!("the service manager gave a socket at {at}: make ListenStream= of netd.socket the same");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let listener = UnixListener::from(descriptor);
    listener.set_nonblocking(true)?;
    access.open(path)?;
    Ok(ApiSocket { listener, file: None })
}

/// A file that this daemon made. Dropping this removes it, unless another file has its name by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

/// Listens at the path. A file without a listener is replaced.
pub(super) fn bind(path: &Path, access: SocketAccess) -> io::Result<ApiSocket> {
    if let Some(folder) = path.parent() {
        private::folder_of_socket(folder)?;
    }
    let address = UnixAddr::new(path)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file of this name exists and is not a socket"));
        }
        Ok(_) => match connect(stream()?.as_raw_fd(), &address) {
            Err(Errno::ECONNREFUSED) => fs::remove_file(path)?,
            Err(Errno::ENOENT) => {}
            // Its queue of connections may be full.
            Ok(()) | Err(Errno::EAGAIN) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => return Err(error.into()),
        },
        Err(_) => {}
    }
    let socket = stream()?;
    // The file gets this mode, less the umask, when it is created (unix_bind_bsd, net/unix/af_unix.c).
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind_to(socket.as_raw_fd(), &address)?;
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), id: (made.dev(), made.ino()) };
    access.open(path)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(ApiSocket { listener: socket.into(), file: Some(file) })
}

fn stream() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

impl SocketFile {
    /// Whether the file is still at its path.
    pub(super) fn is_there(&self) -> bool {
        let is_ours = |found: fs::Metadata| (found.dev(), found.ino()) == self.id;
        fs::symlink_metadata(&self.path).is_ok_and(is_ours)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // If it cannot be removed, the next daemon replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const CLOSED_TO_OTHERS: SocketAccess = SocketAccess { group: None, everyone: false };

    #[test]
    fn the_file_is_closed_to_others_and_goes_with_the_daemon() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run/netd.sock");
        let first = bind(&path, CLOSED_TO_OTHERS).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o711));
        assert_eq!(bind(&path, CLOSED_TO_OTHERS).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        drop(first);
        assert!(!path.exists());
        let _open = bind(&path, SocketAccess { everyone: true, ..CLOSED_TO_OTHERS }).unwrap();
        assert_eq!(mode(&path), 0o666);
    }

    #[test]
    fn a_given_socket_must_listen_at_the_path_and_its_file_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("netd.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let given_again = || given(listener.try_clone().unwrap().into(), &path, CLOSED_TO_OTHERS).unwrap();
        drop(given_again());
        UnixStream::connect(&path).unwrap();
        let error = given(listener.try_clone().unwrap().into(), Path::new("/run/other"), CLOSED_TO_OTHERS).unwrap_err();
        assert!(error.to_string().contains("ListenStream="), "{error}");
        assert!(given(UnixStream::connect(&path).unwrap().into(), &path, CLOSED_TO_OTHERS).is_err());
    }

    #[test]
    fn a_stale_file_is_replaced_and_anothers_is_left() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("netd.sock");
        drop(UnixListener::bind(&path).unwrap());
        let first = bind(&path, CLOSED_TO_OTHERS).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = bind(&path, CLOSED_TO_OTHERS).unwrap();
        drop(first);
        assert!(path.exists(), "it is the second's");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(bind(&path, CLOSED_TO_OTHERS).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists());
    }

    #[test]
    fn a_daemon_that_is_too_busy_to_accept_is_not_replaced() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("netd.sock");
        let busy = stream().unwrap();
        let address = UnixAddr::new(&path).unwrap();
        bind_to(busy.as_raw_fd(), &address).unwrap();
        listen(&busy, Backlog::new(1).unwrap()).unwrap();
        let waiting: Vec<OwnedFd> = (0..4).map(|_| stream().unwrap()).collect();
        assert!(waiting.iter().any(|one| connect(one.as_raw_fd(), &address) == Err(Errno::EAGAIN)));
        assert_eq!(bind(&path, CLOSED_TO_OTHERS).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
    }
}
