//! Whether somebody listens in containers, without a connection there: the kernel is asked in each container's namespace
//! which socket would get it (sock_diag).

use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::Builder;

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};

use super::{VISITOR_STACK, open_exactly, same_cookie};
use crate::kernel::KernelError;
use crate::kernel::netlink::socket::failed;
use crate::kernel::netlink::sockets::{self, Listeners};
use crate::model::address::Family;
use crate::model::endpoint::Netns;
use crate::model::host::backend::Backend;
use crate::model::names::IfName;
use crate::model::publication::Protocol;

const LOOK: &str = "see `ss -lt` there and `modinfo tcp_diag`";

/// Where somebody may listen: addresses and ports in one container.
#[derive(Debug, Clone)]
pub struct Question {
    /// The container's namespace.
    pub netns: Netns,
    /// The addresses and ports.
    pub backends: Vec<Backend>,
}

/// For each of a question's backends, in their order: whether a TCP socket listens there. `None` if that very namespace is
/// not at its path.
pub type Answer = Result<Option<Vec<bool>>, KernelError>;

/// Looks, and returns an answer for each question, in their order. Blocks while a thread visits one namespace after the
/// other: some ten microseconds each, and a few for each backend.
///
/// # Errors
/// If nothing can be looked up at all.
pub fn look(questions: Vec<Question>) -> Result<Vec<Answer>, KernelError> {
    let on = || "TCP".to_owned();
    can_look_up().map_err(failed("list sockets of", on(), LOOK))?;
    // It enters each namespace from the one before, and ends in the last: nothing is looked up unless it has entered.
    let visit = move || questions.iter().map(answer).collect();
    let thread = Builder::new().name("netns-look".into()).stack_size(VISITOR_STACK).spawn(visit);
    let thread = thread.map_err(failed("start a thread that looks for sockets of", on(), "see `ulimit -u`"))?;
    thread.join().map_err(|_| {
        failed("look for sockets of", on(), "this is a defect of netd")(io::Error::other("the thread panicked"))
    })
}

/// A look for a listener cannot tell a kernel without sock_diag from one without a listener, but a list can. What a kernel
/// cannot do for lack of a module is not tried again: the kernel would start a program for it each time.
fn can_look_up() -> io::Result<()> {
    static LACKS: OnceLock<Option<i32>> = OnceLock::new();
    let lacking = match LACKS.get() {
        Some(known) => *known,
        None => match sockets::bound(Family::V4, Protocol::Tcp) {
            Ok(_) => *LACKS.get_or_init(|| None),
            Err(error) => match error.raw_os_error() {
                Some(lack @ (libc::ENOENT | libc::EINVAL | libc::EPROTONOSUPPORT | libc::EPERM | libc::EACCES)) => {
                    *LACKS.get_or_init(|| Some(lack))
                }
                _ => return Err(error),
            },
        },
    };
    lacking.map_or(Ok(()), |lack| Err(io::Error::from_raw_os_error(lack)))
}

fn answer(Question { netns, backends }: &Question) -> Answer {
    let path: &Path = &netns.path;
    let namespace = match open_exactly(netns) {
        Err(KernelError::NoNetns { .. }) => return Ok(None),
        opened => opened?,
    };
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from).map_err(failed(
        "enter the namespace",
        path.display(),
        "see `dmesg`",
    ))?;
    let mut listeners = Listeners::open().map_err(failed("list sockets in", path.display(), LOOK))?;
    if !same_cookie(netns, &listeners) {
        return Ok(None);
    }
    // All backends are at few interfaces, mostly at one.
    let mut last: Option<(&IfName, u32)> = None;
    let mut found = Vec::with_capacity(backends.len());
    for Backend { at, ifname } in backends {
        let interface = match last {
            Some((known, index)) if known == ifname => index,
            // One that was renamed: sockets of a single interface do not count, all others do.
            _ => if_nametoindex(ifname.as_str()).unwrap_or_default(),
        };
        last = Some((ifname, interface));
        found.push(listeners.any_at(*at, interface).map_err(failed("list sockets in", path.display(), LOOK))?);
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use std::time::Duration;

    use super::*;
    use crate::base::deadline::Deadline;
    use crate::kernel::netns::identify;
    use crate::kernel::testing::lab::{Parked, ip};

    fn backends(ports: std::ops::Range<u16>) -> Vec<Backend> {
        let both = |port| [format!("10.7.0.2:{port}"), format!("[fd00::2]:{port}")];
        let backend = |at: String| Backend { at: at.parse().unwrap(), ifname: "eth0".parse().unwrap() };
        ports.flat_map(both).map(backend).collect()
    }

    fn container() -> (Parked, Netns) {
        let container = Parked::new();
        container.run(|| {
            ip("link add eth0 type bridge");
            ip("address add 10.7.0.2/24 dev eth0");
            ip("address add fd00::2/64 dev eth0 nodad");
            ip("link set eth0 up");
            ip("link set lo up");
        });
        let netns = identify(&container.path).unwrap();
        (container, netns)
    }

    fn found(netns: &Netns) -> Vec<bool> {
        let question = Question { netns: netns.clone(), backends: backends(80..81) };
        look(vec![question]).unwrap().pop().unwrap().unwrap().unwrap()
    }

    /// A program that another test is just starting has a copy of the listener until it is executed.
    fn until_closed(netns: &Netns) {
        let patience = Deadline::after(Duration::from_secs(10));
        let all: Vec<Backend> = ["10.7.0.2:80", "10.7.0.2:81", "127.0.0.1:80", "[fd00::2]:80", "[::1]:80"]
            .map(|at| Backend { at: at.parse().unwrap(), ifname: "eth0".parse().unwrap() })
            .to_vec();
        let listens = || {
            let question = Question { netns: netns.clone(), backends: all.clone() };
            look(vec![question]).unwrap().remove(0).unwrap().unwrap().contains(&true)
        };
        while listens() {
            assert!(patience.pause(Duration::from_millis(1)), "still listening");
        }
    }

    #[test]
    fn whoever_would_get_the_connection_listens() {
        let (container, netns) = container();
        assert_eq!(found(&netns), [false, false]);
        for (at, expected) in [
            ("0.0.0.0:80", [true, false]),
            ("10.7.0.2:80", [true, false]),
            ("127.0.0.1:80", [false, false]),
            ("10.7.0.2:81", [false, false]),
            // Rust leaves IPv6 sockets as the kernel makes them: with IPv4 too.
            ("[::]:80", [true, true]),
            ("[::ffff:10.7.0.2]:80", [true, false]),
            ("[fd00::2]:80", [false, true]),
            ("[::1]:80", [false, false]),
        ] {
            let socket = container.run(move || TcpListener::bind(at).unwrap());
            assert_eq!(found(&netns), expected, "{at}");
            drop(socket);
            until_closed(&netns);
        }
        let of_interface = |name: &'static str| {
            container.run(move || {
                use nix::sys::socket::{
                    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt,
                };
                use std::os::fd::AsRawFd as _;
                let kind = (AddressFamily::Inet, SockType::Stream);
                let socket = nix::sys::socket::socket(kind.0, kind.1, SockFlag::SOCK_CLOEXEC, None).unwrap();
                setsockopt(&socket, nix::sys::socket::sockopt::BindToDevice, &name.into()).unwrap();
                bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 80)).unwrap();
                listen(&socket, Backlog::new(1).unwrap()).unwrap();
                socket
            })
        };
        let socket = of_interface("eth0");
        assert_eq!(found(&netns), [true, false]);
        drop(socket);
        until_closed(&netns);
        let _socket = of_interface("lo");
        assert_eq!(found(&netns), [false, false]);
    }

    #[test]
    fn each_container_is_asked_and_one_that_ended_or_another_in_its_place_is_none() {
        let ((one, first), (other, second)) = (container(), container());
        let _socket = other.run(|| TcpListener::bind("10.7.0.2:81").unwrap());
        let mut replaced = second.clone();
        replaced.id.cookie = Some(1);
        drop(one);
        let ask = |netns: &Netns| Question { netns: netns.clone(), backends: backends(80..82) };
        let answers = look(vec![ask(&first), ask(&second), ask(&replaced), ask(&second)]).unwrap();
        let [ended, found, another, again] = &answers[..] else { panic!("{answers:?}") };
        for answer in [found, again] {
            assert_eq!(*answer.as_ref().unwrap(), Some(vec![false, false, true, false]));
        }
        for answer in [ended, another] {
            assert_eq!(*answer.as_ref().unwrap(), None);
        }
    }

    /// Prints what a look costs.
    #[test]
    #[ignore = "measures"]
    fn look_costs() {
        let containers: Vec<(Parked, Netns)> = (0..50).map(|_| container()).collect();
        for (name, ports) in [("one port", 80..81), ("100 ports", 80..180)] {
            for many in [1, 50] {
                let ask = |(_, netns): &(Parked, Netns)| {
                    let only_v4 = backends(ports.clone()).into_iter().filter(|backend| backend.at.is_ipv4());
                    Question { netns: netns.clone(), backends: only_v4.collect() }
                };
                let questions: Vec<Question> = containers.iter().take(many).map(ask).collect();
                let start = crate::base::monotonic::now();
                for _ in 0..100 {
                    assert!(look(questions.clone()).unwrap().iter().all(|answer| answer.as_ref().unwrap().is_some()));
                }
                let each = start.elapsed() / 100 / many as u32;
                println!("{name}, {many} containers at once: {each:?} for each container");
            }
        }
    }
}
