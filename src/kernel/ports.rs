//! Published ports are held by bound sockets, so that a process of the host and netd cannot take the same port
//! silently. Nothing is ever received on them: traffic for a published port is translated before it gets there.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::KernelError;
use super::ports_owner::owner;
use super::ports_socket::{bound, deaf_listener, make_room};
use crate::model::publication::Protocol;
use crate::model::step::HostPort;

/// From how many ports on it pays to make room for them at once.
const MANY: usize = 64;

/// The ports that netd holds, in the network namespace of the threads that call it.
#[derive(Debug, Default)]
pub struct Ports {
    /// Without a socket where the kernel has no such protocol or family: then nobody can take the port.
    held: BTreeMap<HostPort, Option<OwnedFd>>,
    /// Whether the limit of open files was raised.
    raised: bool,
}

impl Ports {
    /// Holds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds the ports, all or none. Those that are held already are fine.
    pub fn hold(&mut self, ports: &[HostPort]) -> Result<(), KernelError> {
        if !self.raised {
            self.raised = true;
            raise_open_files();
        }
        if ports.len() > MANY {
            make_room(ports.len());
        }
        let mut taken = Vec::with_capacity(ports.len());
        for port in ports.iter().filter(|port| !self.held.contains_key(port)) {
            taken.push((*port, take(*port)?));
        }
        self.held.extend(taken);
        Ok(())
    }

    /// Lets the ports go; those that are not held are fine.
    pub fn release(&mut self, ports: &[HostPort]) {
        for port in ports {
            self.held.remove(port);
        }
    }
}

fn take(port: HostPort) -> Result<Option<OwnedFd>, KernelError> {
    match bound(port) {
        Ok(socket) => Ok(Some(socket)),
        // No SCTP, or no IPv6.
        Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT | Errno::EAFNOSUPPORT) => Ok(None),
        Err(Errno::EADDRNOTAVAIL) => Err(KernelError::NoAddress { address: port.address }),
        Err(Errno::EADDRINUSE) => take_from_the_dead(port),
        Err(error) => Err(failed(port, error)),
    }
}

/// The port is in use: by somebody who is told, or only by connections in TIME-WAIT, which a socket that listens and
/// allows reuse may succeed.
fn take_from_the_dead(port: HostPort) -> Result<Option<OwnedFd>, KernelError> {
    let unseen = || KernelError::PortTaken { port, owner: "a process that netd cannot see".to_owned() };
    match owner(port) {
        Ok(Some(owner)) => Err(KernelError::PortTaken { port, owner }),
        Ok(None) if port.protocol == Protocol::Tcp => deaf_listener(port).map(Some).map_err(|error| match error {
            Errno::EADDRINUSE => unseen(),
            error => failed(port, error),
        }),
        Ok(None) | Err(_) => Err(unseen()),
    }
}

fn failed(port: HostPort, error: Errno) -> KernelError {
    let look = match error {
        Errno::EMFILE | Errno::ENFILE => "raise LimitNOFILE of the service, or fs.file-max",
        _ => "see `ss -lntu`",
    };
    let on = format!("{}/{} on {}", port.port, port.protocol, port.address);
    KernelError::Io { attempted: "hold port", on, source: io::Error::from(error), look }
}

/// A range of ports needs as many descriptors. A limit that cannot be raised is met when it is reached.
fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::kernel::throwaway::{in_netns, run};

    fn port(address: &str, protocol: Protocol, port: u16) -> HostPort {
        HostPort { address: address.parse().unwrap(), protocol, port }
    }

    /// A child that another test starts has our sockets until it executes its program, so a port is free a little later
    /// than it is let go.
    fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !holds() {
            assert!(Instant::now() < deadline, "not in time: {what}");
        }
    }

    fn me() -> String {
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        format!("{} (pid {})", name.trim(), std::process::id())
    }

    #[test]
    fn a_held_port_is_nobody_elses() {
        in_netns(|| {
            let mut ports = Ports::new();
            let all = [
                port("0.0.0.0", Protocol::Tcp, 4000),
                port("::", Protocol::Tcp, 4000),
                port("0.0.0.0", Protocol::Udp, 4000),
                port("::", Protocol::Udp, 4000),
                port("127.0.0.1", Protocol::Sctp, 4000),
            ];
            ports.hold(&all).unwrap();
            ports.hold(&all).unwrap();
            for address in ["127.0.0.1:4000", "0.0.0.0:4000", "[::1]:4000", "[::]:4000"] {
                assert_eq!(TcpListener::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse, "{address}");
                assert_eq!(UdpSocket::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse, "{address}");
            }
            let refused = TcpStream::connect("127.0.0.1:4000").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            ports.release(&all);
            eventually("TCP is free", || TcpListener::bind("0.0.0.0:4000").is_ok());
            eventually("UDP is free", || UdpSocket::bind("[::]:4000").is_ok());
        });
    }

    #[test]
    fn the_owner_of_a_taken_port_is_named_and_nothing_is_held() {
        in_netns(|| {
            let mut ports = Ports::new();
            let free = port("0.0.0.0", Protocol::Tcp, 4000);
            let listeners = [TcpListener::bind("127.0.0.1:4001").unwrap(), TcpListener::bind("[::]:4002").unwrap()];
            let sockets = [UdpSocket::bind("127.0.0.1:4003").unwrap(), UdpSocket::bind("[::1]:4004").unwrap()];
            for taken in [
                port("0.0.0.0", Protocol::Tcp, 4001),
                port("127.0.0.1", Protocol::Tcp, 4001),
                port("0.0.0.0", Protocol::Tcp, 4002),
                port("::", Protocol::Tcp, 4002),
                port("0.0.0.0", Protocol::Udp, 4003),
                port("::", Protocol::Udp, 4004),
            ] {
                let said = format!("port {}/{} on {}", taken.port, taken.protocol, taken.address);
                let expected = format!("{said} is in use by {}", me());
                let mut refused = || ports.hold(&[free, taken]).unwrap_err().to_string();
                eventually(&expected, || refused() == expected);
                eventually("port 4000 is free", || TcpListener::bind("0.0.0.0:4000").is_ok());
                // The check's own listener is gone as well before the next round.
                eventually("port 4000 can be held", || Ports::new().hold(&[free]).is_ok());
            }
            ports.hold(&[port("127.0.0.2", Protocol::Tcp, 4001), port("::", Protocol::Tcp, 4001)]).unwrap();
            drop((listeners, sockets));
        });
    }

    #[test]
    fn another_netd_is_a_process_that_cannot_be_seen() {
        in_netns(|| {
            let (mut one, mut other) = (Ports::new(), Ports::new());
            let held = port("0.0.0.0", Protocol::Tcp, 4000);
            one.hold(&[held]).unwrap();
            let error = other.hold(&[held]).unwrap_err();
            assert!(matches!(error, KernelError::PortTaken { .. }), "{error}");
        });
    }

    #[test]
    fn an_address_that_is_not_there_is_named() {
        in_netns(|| {
            let error = Ports::new().hold(&[port("192.0.2.1", Protocol::Tcp, 4000)]).unwrap_err();
            assert!(matches!(error, KernelError::NoAddress { .. }), "{error}");
            assert!(error.to_string().contains("192.0.2.1"), "{error}");
        });
    }

    #[test]
    fn connections_in_time_wait_do_not_keep_a_port() {
        in_netns(|| {
            let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
            let client = TcpStream::connect("127.0.0.1:4000").unwrap();
            let (server, _) = listener.accept().unwrap();
            // Who closes first waits.
            drop(server);
            let mut end = [0];
            assert_eq!(io::Read::read(&mut &client, &mut end).unwrap(), 0);
            drop((client, listener));
            let deadline = Instant::now() + Duration::from_secs(5);
            while !run("ss -tanH state time-wait").contains(":4000") {
                assert!(Instant::now() < deadline, "no connection waits");
            }
            let held = port("0.0.0.0", Protocol::Tcp, 4000);
            let mut ports = Ports::new();
            ports.hold(&[held]).unwrap();
            assert_eq!(TcpListener::bind("127.0.0.1:4000").unwrap_err().kind(), io::ErrorKind::AddrInUse);
            // It listens, and yet nobody gets through.
            let nobody = TcpStream::connect_timeout(&"127.0.0.1:4000".parse().unwrap(), Duration::from_millis(50));
            assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn ten_thousand_ports_are_held_at_once() {
        in_netns(|| {
            let range: Vec<_> = (20000..30000).map(|number| port("0.0.0.0", Protocol::Udp, number)).collect();
            let mut ports = Ports::new();
            let began = Instant::now();
            ports.hold(&range).unwrap();
            println!("10,000 ports held in {:?}", began.elapsed());
            assert_eq!(run("ss -lunH").lines().count(), 10_000);
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..1000 {
                sender.send_to(&[0; 100], "127.0.0.1:20000").unwrap();
            }
            let kept = run("ss -lunH sport = 20000");
            let kept: u32 = kept.split_whitespace().nth(1).unwrap().parse().unwrap();
            assert!(kept < 8192, "{kept} bytes wait");
            drop(sender);
            ports.release(&range);
            eventually("all are free", || run("ss -lunH").is_empty());
        });
    }
}
