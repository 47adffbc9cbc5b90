//! Sockets in containers, for connections to the containers' own addresses that neither leave them nor meet a firewall of
//! the host.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::Builder;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{VISITOR_STACK, open_exactly, raise_loopback, same_cookie};
use crate::kernel::KernelError;
use crate::kernel::netlink::socket::failed;
use crate::model::address::Family;
use crate::model::endpoint::Netns;

const LOOK: &str = "see `ulimit -n` and `free`";

/// The sockets to make in one container.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The container's namespace.
    pub netns: Netns,
    /// One socket for each of these.
    pub families: Vec<Family>,
    /// Brings the loopback interface up first: the container's own addresses are reached over it.
    pub raise: bool,
}

/// TCP sockets that are not connected and do not block, one for each family, in their order. `None` if that very namespace
/// is not at its path.
pub type Made = Result<Option<Vec<OwnedFd>>, KernelError>;

/// Makes sockets in containers, and returns an answer for each, in their order. Blocks while a thread visits one namespace
/// after the other: some ten microseconds each, besides a tenth of a millisecond for the thread.
///
/// # Errors
/// If there is no thread for it.
pub fn open(wanted: Vec<Wanted>) -> Result<Vec<Made>, KernelError> {
    let on = || "containers".to_owned();
    // It enters each namespace from the one before, and ends in the last: no socket is made unless it has entered.
    let visit = move || wanted.iter().map(sockets).collect();
    let thread = Builder::new().name("netns-sockets".into()).stack_size(VISITOR_STACK).spawn(visit);
    let thread = thread.map_err(failed("start a thread that makes sockets in", on(), "see `ulimit -u`"))?;
    thread.join().map_err(|_| {
        failed("make sockets in", on(), "this is a defect of netd")(io::Error::other("the thread panicked"))
    })
}

fn sockets(Wanted { netns, families, raise }: &Wanted) -> Made {
    let namespace = match open_exactly(netns) {
        Err(KernelError::NoNetns { .. }) => return Ok(None),
        opened => opened?,
    };
    let path = || netns.path.display();
    let entered = setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
    entered.map_err(failed("enter the namespace", path(), "see `dmesg`"))?;
    let mut made = Vec::with_capacity(families.len());
    for family in families {
        let family = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Stream, flags, None).map_err(io::Error::from);
        made.push(socket.map_err(failed("make a socket in", path(), LOOK))?);
    }
    if made.first().is_some_and(|socket| !same_cookie(netns, socket)) {
        return Ok(None);
    }
    if *raise {
        raise_loopback().map_err(failed("bring up lo in", path(), "see `ip link` there"))?;
    }
    Ok(Some(made))
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{SockaddrIn, connect};

    use super::*;
    use crate::kernel::netns::identify;
    use crate::kernel::testing::lab::{Parked, ip};

    fn container() -> (Parked, Netns) {
        let container = Parked::new();
        container.run(|| {
            ip("link add eth0 type bridge");
            ip("address add 10.7.0.2/24 dev eth0");
            ip("link set eth0 up");
        });
        let netns = identify(&container.path).unwrap();
        (container, netns)
    }

    fn wanted(netns: &Netns) -> Wanted {
        Wanted { netns: netns.clone(), families: vec![Family::V4], raise: true }
    }

    /// What comes of a connection from the socket to the address and port.
    fn connected(socket: OwnedFd, at: &str) -> Option<io::ErrorKind> {
        let at: SocketAddr = at.parse().unwrap();
        let SocketAddr::V4(at) = at else { panic!("{at}") };
        match connect(socket.as_raw_fd(), &SockaddrIn::from(at)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Some(io::Error::from(error).kind()),
        }
        let stream = TcpStream::from(socket);
        use std::os::fd::AsFd as _;
        let ready = poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(2000u16)).unwrap();
        assert_eq!(ready, 1, "neither an answer nor a refusal");
        stream.take_error().unwrap().map(|error| error.kind())
    }

    #[test]
    fn connections_are_made_within_each_container_even_with_its_loopback_down() {
        let ((one, first), (_other, second)) = (container(), container());
        let _socket = one.run(|| TcpListener::bind("10.7.0.2:80").unwrap());
        let of = |netns: &Netns, at: &str| {
            let made = open(vec![wanted(&second), wanted(netns)]).unwrap();
            let mut sockets: Vec<OwnedFd> = made.into_iter().flat_map(|made| made.unwrap().unwrap()).collect();
            connected(sockets.remove(1), at)
        };
        assert_eq!(of(&first, "10.7.0.2:80"), None);
        let refused = Some(io::ErrorKind::ConnectionRefused);
        assert_eq!(of(&second, "10.7.0.2:80"), refused, "each container has its own");
        let _local = one.run(|| TcpListener::bind("127.0.0.1:81").unwrap());
        assert_eq!(of(&first, "127.0.0.1:81"), None);
        assert_eq!(of(&first, "10.7.0.2:81"), refused, "who listens on the loopback only");
    }

    #[test]
    fn there_is_no_socket_in_a_container_that_ended_or_in_another_in_its_place() {
        let ((one, first), (_other, second)) = (container(), container());
        let mut replaced = second.clone();
        replaced.id.cookie = Some(1);
        drop(one);
        let made = open(vec![wanted(&first), wanted(&second), wanted(&replaced)]).unwrap();
        let counts = made.into_iter().map(|made| made.unwrap().map(|sockets| sockets.len()));
        assert_eq!(counts.collect::<Vec<_>>(), [None, Some(1), None]);
    }

    /// Prints what it costs.
    #[test]
    #[ignore = "measures"]
    fn sockets_cost() {
        let containers: Vec<(Parked, Netns)> = (0..64).map(|_| container()).collect();
        for many in [1, 8, 64] {
            let all: Vec<Wanted> =
                containers.iter().take(many).map(|(_, netns)| Wanted { raise: false, ..wanted(netns) }).collect();
            let start = crate::base::monotonic::now();
            for _ in 0..100 {
                assert!(open(all.clone()).unwrap().iter().all(|made| made.as_ref().unwrap().is_some()));
            }
            let each = start.elapsed() / 100;
            println!("{many} containers at once: {each:?}, {:?} for each", each / many as u32);
        }
    }
}
