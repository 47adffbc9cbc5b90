//! `netd port rm --drain` where netd itself passes on what arrives: what was accepted stays, and the port is free.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::seen;

use crate::lab::space::inside;
use crate::lab::{Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("proxy: with --drain, connections of a removed port stay, and without it they are reset", connections),
        trial("proxy: a draining port is another program's, or another container's, at once", ports),
        trial("proxy: what drains ends with its container's network, and with its container", leaves),
        trial("proxy: with --drain, UDP flows of a removed port stay, and netd can publish it again", flows),
    ]
}

const LOOPBACK: &str = "[::1]:4000";

/// A server in the container that answers each byte with its own, over TCP and UDP at port 80, and with what ends its
/// connections. It ends with the process.
fn serve(container: &str, answer: u8) {
    let listener = inside(container, || TcpListener::bind("[::]:80")).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                while stream.read(&mut [0]).is_ok_and(|read| read > 0) {
                    stream.write_all(&[answer]).unwrap();
                }
            });
        }
    });
    let socket = inside(container, || UdpSocket::bind("[::]:80")).unwrap();
    thread::spawn(move || {
        while let Ok((_, client)) = socket.recv_from(&mut [0]) {
            socket.send_to(&[answer], client).unwrap();
        }
    });
}

fn set_up(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    for (container, answer) in [("web", b'w'), ("db", b'd')] {
        lab.connected("net1", container, "");
        serve(container, answer);
    }
}

/// The error of a connection to the port.
fn error() -> ErrorKind {
    let to: SocketAddr = LOOPBACK.parse().unwrap();
    inside("host", || TcpStream::connect(to)).expect_err("nobody listens").kind()
}

/// A client's connection.
#[derive(Debug)]
struct Client(TcpStream);

impl Client {
    fn exchange(&mut self) -> Result<char, ErrorKind> {
        let mut answer = [0];
        self.0.write_all(b"?").map_err(|error| error.kind())?;
        self.0.read_exact(&mut answer).map_err(|error| error.kind())?;
        Ok(char::from(answer[0]))
    }

    /// Waits until netd has seen that somebody listens.
    fn of(server: char) -> Self {
        until(&format!("{server} answers"), || {
            let stream = inside("host", || TcpStream::connect(LOOPBACK)).map_err(|error| error.to_string())?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut client = Self(stream);
            match client.exchange() {
                Ok(answer) if answer == server => Ok(client),
                other => Err(format!("{other:?}")),
            }
        })
    }

    fn is_reset(&mut self) {
        assert!(self.exchange().is_err_and(is_reset), "{self:?}");
    }
}

fn is_reset(error: ErrorKind) -> bool {
    // A write may be the first to be told.
    matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn connections(lab: &Lab) {
    set_up(lab);
    lab.netd("port add web 4000:80").ok();
    let mut client = Client::of('w');
    lab.netd("port rm web 4000:80 --drain").ok();
    assert_eq!(error(), ErrorKind::ConnectionRefused);
    assert_eq!(client.exchange(), Ok('w'));
    // Also while the port is published for others, with and without connections that end.
    lab.netd("port add web 4000:80").ok();
    let mut second = Client::of('w');
    lab.netd("port rm web 4000:80").ok();
    second.is_reset();
    assert_eq!(error(), ErrorKind::ConnectionRefused);
    assert_eq!(client.exchange(), Ok('w'));
    // It ends by itself, and nothing is left of it.
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
    drop(client);
    until("no connection is left", || {
        seen(run("ip netns exec host ss -tnH state established sport = 4000").ok().stdout, String::is_empty)
    });
}

fn ports(lab: &Lab) {
    set_up(lab);
    lab.netd("port add web 4000:80").ok();
    let mut first = Client::of('w');
    lab.netd("port rm web 4000:80 --drain").ok();
    // Rust binds with SO_REUSEADDR, as servers do that can be restarted.
    let other = inside("host", || TcpListener::bind(LOOPBACK)).expect("it is free");
    let refused = lab.netd("port add db 4000:80").refused();
    assert!(refused.contains("4000/tcp") && refused.contains("in use by"), "{refused}");
    assert_eq!(first.exchange(), Ok('w'));
    drop(other);
    for (container, answer) in [("db", 'd'), ("web", 'w')] {
        lab.netd(&format!("port add {container} 4000:80")).ok();
        let mut second = Client::of(answer);
        assert_eq!((first.exchange(), second.exchange()), (Ok('w'), Ok(answer)));
        lab.netd(&format!("port rm {container} 4000:80 --drain")).ok();
        assert_eq!(error(), ErrorKind::ConnectionRefused);
        assert_eq!((first.exchange(), second.exchange()), (Ok('w'), Ok(answer)));
    }
    // Nobody listens: the port is held all the same.
    lab.container("idle");
    lab.netd("connect net1 idle -p 4000:80").ok();
    let to: SocketAddr = LOOPBACK.parse().unwrap();
    until("a connection is refused", || {
        match inside("host", || TcpStream::connect_timeout(&to, Duration::from_millis(200))) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => Err(other),
        }
    });
    for at in ["[::]:4000", LOOPBACK] {
        let error = inside("host", || TcpListener::bind(at)).expect_err("netd holds it");
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{at}");
    }
    assert_eq!(first.exchange(), Ok('w'));
    lab.stop_daemon();
    first.exchange().expect_err("it has ended");
}

/// A process that sends back what it gets over one connection to port 80. Its sockets end with it, so they do not keep the
/// namespace. It ends when dropped.
struct Echo(Child);

impl Echo {
    fn start(container: &str) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", container, "busybox", "nc", "-l", "-p", "80", "-e", "busybox", "cat"]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("busybox"))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn leaves(lab: &Lab) {
    set_up(lab);
    lab.netd("network create net2").ok();
    lab.netd("connect net2 web").ok();
    lab.connected("net1", "mortal", "");
    let echo = Echo::start("mortal");
    let drained = |container: &str, answer| {
        lab.netd(&format!("port add {container} 4000:80")).ok();
        let client = Client::of(answer);
        lab.netd(&format!("port rm {container} 4000:80 --drain")).ok();
        client
    };
    let (mut web, mut mortal) = (drained("web", 'w'), drained("mortal", '?'));
    // It leads over net1.
    lab.netd("disconnect net2 web").ok();
    assert_eq!((web.exchange(), mortal.exchange()), (Ok('w'), Ok('?')));
    lab.netd("disconnect net1 web").ok();
    web.is_reset();
    assert_eq!(mortal.exchange(), Ok('?'));
    drop(echo);
    run("ip netns delete mortal").ok();
    // The end of the server only ends one direction.
    until("the connection is reset", || mortal.exchange().err().filter(|error| is_reset(*error)));
}

/// A client with a socket of its own, which keeps it.
struct Datagrams(UdpSocket);

impl Datagrams {
    fn new() -> Self {
        let socket = inside("host", || UdpSocket::bind("[::1]:0")).unwrap();
        socket.connect(LOOPBACK.parse::<SocketAddr>().unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        Self(socket)
    }

    fn exchange(&self) -> Option<char> {
        let mut answer = [0];
        self.0.send(b"?").ok()?;
        self.0.recv(&mut answer).ok()?;
        Some(char::from(answer[0]))
    }
}

fn flows(lab: &Lab) {
    set_up(lab);
    lab.netd("port add web 4000:80/udp").ok();
    let clients = [Datagrams::new(), Datagrams::new()];
    let answered = |answer| clients.iter().for_each(|client| assert_eq!(client.exchange(), Some(answer)));
    answered('w');
    lab.netd("port rm web 4000:80/udp --drain").ok();
    answered('w');
    assert_eq!(Datagrams::new().exchange(), None);
    inside("host", || UdpSocket::bind("0.0.0.0:4000")).expect("it is free");
    lab.netd("port add db 4000:80/udp").ok();
    let new = Datagrams::new();
    assert_eq!(new.exchange(), Some('d'));
    answered('w');
    let error = inside("host", || UdpSocket::bind("[::]:4000")).expect_err("netd holds it");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    lab.netd("port rm db 4000:80/udp --drain").ok();
    assert_eq!(new.exchange(), Some('d'));
    lab.netd("port add web 4000:80/udp").ok();
    lab.netd("port rm web 4000:80/udp").ok();
    assert_eq!(new.exchange(), Some('d'));
    answered('w');
    lab.netd("disconnect net1 web").ok();
    assert_eq!(clients[0].exchange(), None);
    assert_eq!(new.exchange(), Some('d'));
    lab.netd("disconnect net1 db").ok();
    inside("host", || UdpSocket::bind("[::]:4000")).expect("it is free");
}
