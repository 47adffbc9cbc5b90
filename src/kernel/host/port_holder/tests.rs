//! Ports in namespaces of their own.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use netd_testing::wait::until;

use super::*;
use crate::kernel::testing::lab::{in_own_netns, ip};
use crate::model::publication::PortRange;

fn port(address: &str, protocol: Protocol, port: u16) -> HostPorts {
    range(address, protocol, port, port)
}

fn range(address: &str, protocol: Protocol, first: u16, last: u16) -> HostPorts {
    HostPorts { address: address.parse().unwrap(), protocol, ports: PortRange::new(first, last).unwrap() }
}

fn kind(error: &io::Error) -> io::ErrorKind {
    error.kind()
}

#[test]
fn a_held_port_is_nobody_elses_until_it_is_released() {
    in_own_netns(|| {
        ip("link set lo up");
        let mut ports = Ports::default();
        let held = [port("0.0.0.0", Protocol::Tcp, 4000), port("::", Protocol::Udp, 4000)];
        ports.hold(&held).unwrap();
        ports.hold(&held).unwrap();
        assert_eq!(kind(&TcpListener::bind("127.0.0.1:4000").unwrap_err()), io::ErrorKind::AddrInUse);
        assert_eq!(kind(&UdpSocket::bind("[::1]:4000").unwrap_err()), io::ErrorKind::AddrInUse);
        assert_eq!(kind(&TcpStream::connect("127.0.0.1:4000").unwrap_err()), io::ErrorKind::ConnectionRefused);
        ports.release(&held);
        freed(|| TcpListener::bind("127.0.0.1:4000"));
        freed(|| UdpSocket::bind("[::1]:4000"));
    });
}

fn owner(error: &mut KernelError) -> &mut PortOwner {
    match error {
        KernelError::PortTaken { owner, .. } => owner,
        other => panic!("{other}"),
    }
}

/// Who asks for many ports costs one search: the owner is named later, and not on the engine's thread.
#[test]
fn the_ports_of_the_containers_own_process_are_vacant_to_it() {
    in_own_netns(|| {
        ip("link set lo up");
        let asked: Vec<HostPorts> = (4010..4014).map(|number| port("127.0.0.1", Protocol::Tcp, number)).collect();
        let listener = |port: &HostPorts| TcpListener::bind((port.address, port.ports.first())).unwrap();
        let sockets = || asked[..3].iter().map(listener).map(|socket| Stdio::from(OwnedFd::from(socket)));
        // A process that has them, as Podman's conmon does.
        let mut command = Command::new("sh");
        command.args(["-c", "kill -STOP $$", "conmon", "0123456789abcdef"]);
        let mut sockets = sockets();
        let mut next = || sockets.next().unwrap();
        let mut process = command.stdin(next()).stdout(next()).stderr(next()).spawn().unwrap();
        drop(command);
        // Its command line is readable some time after the exec that `spawn` waits for.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(process.id()).unwrap());
        nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WUNTRACED)).unwrap();
        let vacant = |container: &str| Ports::default().vacant(&asked, &container.parse().unwrap(), None);
        let (own, others) = (vacant("0123456789abcdef"), vacant("fedcba9876543210"));
        let mut error = others.unwrap_err();
        assert!(matches!(owner(&mut error), PortOwner::Socket(_)), "not searched for as yet: {error}");
        port_owner::find(&mut [owner(&mut error)]);
        process.kill().unwrap();
        process.wait().unwrap();
        own.unwrap();
        let error = error.to_string();
        let named = error.starts_with("port 4010/tcp on 127.0.0.1 is in use by ") && error.contains(" (pid ");
        assert!(named, "{error}");
    });
}

/// Programs that other tests start have copies of these sockets between fork and exec.
fn freed<T, E: std::fmt::Debug>(bind: impl FnMut() -> Result<T, E>) {
    until("the port is free", bind);
}

#[test]
fn a_taken_port_names_its_owner_and_holds_none_of_the_others() {
    in_own_netns(|| {
        ip("link set lo up");
        let _process = TcpListener::bind("127.0.0.1:4001").unwrap();
        let _dual = UdpSocket::bind("[::]:4002").unwrap();
        let mut ports = Ports::default();
        let asked = [port("0.0.0.0", Protocol::Tcp, 4000), port("0.0.0.0", Protocol::Tcp, 4001)];
        let mut first = ports.hold(&asked).unwrap_err();
        let mut second = ports.hold(&[port("127.0.0.1", Protocol::Udp, 4002)]).unwrap_err();
        assert!(!second.to_string().contains("(pid"), "no search as yet: {second}");
        let mut owners = [owner(&mut first), owner(&mut second)];
        port_owner::find(&mut owners);
        let error = first.to_string();
        let me = format!("(pid {})", std::process::id());
        assert!(error.starts_with("port 4001/tcp on 0.0.0.0 is in use by ") && error.contains(&me), "{error}");
        freed(|| TcpListener::bind("127.0.0.1:4000"));
        assert!(second.to_string().contains(&me), "one search names both: {second}");
        ip("link add up0 type bridge");
        ip("address add 192.0.2.1/24 dev up0");
        ip("link set up0 up");
        for absent in ["192.0.2.77", "192.0.2.255"] {
            let error = ports.hold(&[port(absent, Protocol::Tcp, 80)]).unwrap_err();
            assert!(matches!(error, KernelError::NoAddress { .. }), "{error}");
        }
        ports.hold(&[port("192.0.2.1", Protocol::Tcp, 80)]).unwrap();
    });
}

#[test]
fn ended_connections_do_not_stand_in_the_way() {
    in_own_netns(|| {
        ip("link set lo up");
        let listener = TcpListener::bind("127.0.0.1:4003").unwrap();
        let client = TcpStream::connect("127.0.0.1:4003").unwrap();
        let (server, _) = listener.accept().unwrap();
        // The side that closes first keeps the port in TIME_WAIT.
        drop(server);
        drop((client, listener));
        let mut ports = Ports::default();
        ports.hold(&[port("0.0.0.0", Protocol::Tcp, 4003)]).unwrap();
        assert_eq!(kind(&TcpListener::bind("127.0.0.1:4003").unwrap_err()), io::ErrorKind::AddrInUse);
    });
}

#[test]
fn connections_of_netd_itself_do_not_stand_in_the_way_and_those_of_others_do() {
    in_own_netns(|| {
        ip("link set lo up");
        let accepted = |at: &str| {
            let listener = TcpListener::bind(at).unwrap();
            let client = TcpStream::connect(at).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let flow = |at: &str| {
            let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
            setsockopt(&socket, ReuseAddr, &true).unwrap();
            bind(socket.as_raw_fd(), &SockaddrStorage::from(at.parse::<SocketAddr>().unwrap())).unwrap();
            let socket = UdpSocket::from(socket);
            socket.connect("127.0.0.1:9").unwrap();
            socket
        };
        let own = (accepted("127.0.0.1:4010"), flow("127.0.0.1:4010"));
        let mut ports = Ports::default();
        ports.hold(&[port("0.0.0.0", Protocol::Tcp, 4010), port("0.0.0.0", Protocol::Udp, 4010)]).unwrap();
        assert_eq!(kind(&TcpListener::bind("127.0.0.1:4010").unwrap_err()), io::ErrorKind::AddrInUse);
        let other = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&other, ReuseAddr, &true).unwrap();
        let at = SockaddrStorage::from("127.0.0.1:4010".parse::<SocketAddr>().unwrap());
        assert_eq!(bind(other.as_raw_fd(), &at).unwrap_err(), Errno::EADDRINUSE, "nobody shares it");
        drop(own);
        let (_client, server) = accepted("127.0.0.1:4011");
        let _others = (Process::with(server), Process::with(flow("127.0.0.1:4011")));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let error = ports.hold(&[port("0.0.0.0", protocol, 4011)]).unwrap_err();
            assert!(matches!(error, KernelError::PortTaken { .. }), "{error}");
        }
    });
}

/// Another process that has a socket; it ends when dropped.
struct Process(Child);

impl Process {
    fn with(socket: impl Into<OwnedFd>) -> Self {
        Self(Command::new("sleep").arg("100").stdin(Stdio::from(socket.into())).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_long_range_has_no_sockets_and_is_not_held_while_another_process_has_a_port_of_it() {
    in_own_netns(|| {
        ip("link set lo up");
        let mut ports = Ports::default();
        for (protocol, dual) in [(Protocol::Udp, "[::]:20005"), (Protocol::Tcp, "[::]:20006")] {
            let asked = [range("0.0.0.0", protocol, 20000, 29999), range("::", protocol, 20000, 29999)];
            let four = [asked[0]];
            let all = |ports: &mut Ports| ports.held().unwrap().into_iter().collect::<Vec<_>>();
            ports.hold(&asked).unwrap();
            assert_eq!((all(&mut ports), ports.held.len()), (asked.to_vec(), 0), "no sockets");
            let bind = |at: &str| match protocol {
                Protocol::Udp => Process::with(UdpSocket::bind(at).unwrap()),
                _ => Process::with(TcpListener::bind(at).unwrap()),
            };
            // The daemon's own sockets do not count.
            let _own = UdpSocket::bind("127.0.0.1:20001").unwrap();
            // Neither another port, nor an address beside it, nor a client.
            let beside = [bind("0.0.0.0:19999"), bind("0.0.0.0:30000")];
            let client = UdpSocket::bind("127.0.0.1:20007").unwrap();
            client.connect("127.0.0.1:9").unwrap();
            let client = Process::with(client);
            assert_eq!(all(&mut ports), asked);
            let process = bind("127.0.0.1:20005");
            assert_eq!(all(&mut ports), asked[1..], "IPv6 is vacant");
            let error = ports.hold(&four).unwrap_err();
            assert!(error.to_string().contains("port 20005/"), "{error}");
            assert!(ports.vacant(&four, &"0123456789ab".parse().unwrap(), None).is_err());
            drop((process, beside, client));
            freed(|| ports.hold(&four));
            let process = bind(dual);
            assert_eq!(all(&mut ports), [], "it has both families");
            drop(process);
            freed(|| ports.hold(&asked));
            ports.release(&asked);
            assert_eq!(all(&mut ports), []);
        }
        let absent = ports.hold(&[range("192.0.2.77", Protocol::Udp, 20000, 29999)]).unwrap_err();
        assert!(matches!(absent, KernelError::NoAddress { .. }), "{absent}");
        ports.hold(&[range("0.0.0.0", Protocol::Sctp, 20000, 29999)]).unwrap();
    });
}
