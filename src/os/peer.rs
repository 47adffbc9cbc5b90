//! The process at the other end of a unix socket, as it was when it connected (unix(7)).
#![allow(unsafe_code, reason = "nix has no SO_PEERGROUPS")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

/// Groups of one user (`NGROUPS_MAX`, linux/limits.h).
const GROUPS_MAX: usize = 65_536;

/// A user, and the groups of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The effective user id.
    pub user: u32,
    /// The effective group id, and the supplementary ones.
    pub groups: Vec<u32>,
}

/// Who is at the other end.
pub fn of(socket: &impl AsFd) -> io::Result<Peer> {
    let credentials = getsockopt(&socket.as_fd(), PeerCredentials)?;
    let mut groups = supplementary(socket)?;
    groups.push(credentials.gid());
    Ok(Peer { user: credentials.uid(), groups })
}

fn supplementary(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut length = libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `length` bytes into the buffer, which is that long, and the length that it
        // has or needs into a live local; the descriptor is open while it is borrowed.
        let done = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<libc::gid_t>();
        match Errno::result(done) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err(Errno::ERANGE) if count > groups.len() && count <= GROUPS_MAX => groups.resize(count, 0),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_other_end_is_this_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = of(&ours).unwrap();
        assert_eq!(peer.user, nix::unistd::geteuid().as_raw());
        assert!(peer.groups.contains(&nix::unistd::getegid().as_raw()), "{peer:?}");
        let own: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        assert!(own.iter().all(|group| peer.groups.contains(group)), "{peer:?} {own:?}");
    }
}
