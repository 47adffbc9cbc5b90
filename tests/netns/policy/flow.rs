//! Flows that stay open, and whether they go on; servers that answer them; and what the kernel traces.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::lab::space::inside;
use crate::lab::until;

pub(crate) use crate::lab::Proto;

pub(crate) const TCP: Proto = Proto::Tcp;
pub(crate) const UDP: Proto = Proto::Udp;

/// An answer that does not come within this time never comes.
const SILENCE: Duration = Duration::from_millis(400);
/// One that must come may take this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sends back what it gets, over TCP and UDP, at every address.
pub(crate) struct Server {
    end: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
}

impl Server {
    pub(crate) fn start(ns: &str, port: u16) -> Self {
        let (listener, socket) = inside(ns, || {
            let listener = TcpListener::bind(("::", port)).expect("a listener");
            (listener, UdpSocket::bind(("::", port)).expect("a socket"))
        });
        let server = Self { end: Arc::default(), heard: Arc::default() };
        socket.set_read_timeout(Some(SILENCE)).expect("a limit");
        listener.set_nonblocking(true).expect("a listener");
        let (end, heard) = (server.end.clone(), server.heard.clone());
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            while !end.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    heard.fetch_add(1, Ordering::Relaxed);
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        let end = server.end.clone();
        thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(thread::spawn(|| echo(stream))),
                    Err(_) => thread::park_timeout(Duration::from_millis(5)),
                }
            }
        });
        server
    }

    /// How many datagrams have come.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// A flow that is open.
pub(crate) enum Flow {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Flow {
    /// Whether what is sent comes back.
    pub(crate) fn goes_on(&mut self) -> bool {
        self.exchange(PATIENCE)
    }

    /// Whether nothing comes back any more.
    pub(crate) fn has_ended(&mut self) -> bool {
        !self.exchange(SILENCE)
    }

    fn exchange(&mut self, patience: Duration) -> bool {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let sent = NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut got = [0; 8];
        let came = match self {
            Self::Tcp(stream) => stream
                .set_read_timeout(Some(patience))
                .and_then(|()| stream.write_all(&sent))
                .and_then(|()| stream.read_exact(&mut got)),
            Self::Udp(socket) => socket
                .set_read_timeout(Some(patience))
                .and_then(|()| socket.send(&sent))
                .and_then(|_| socket.recv(&mut got))
                .map(drop),
        };
        came.is_ok() && got == sent
    }
}

fn address(to: &str, port: u16) -> SocketAddr {
    let (bare, scope) = to.split_once('%').unwrap_or((to, ""));
    match bare.parse().unwrap_or_else(|error| panic!("{to}: {error}")) {
        IpAddr::V6(ip) if !scope.is_empty() => {
            let index = nix::net::if_::if_nametoindex(scope).unwrap_or_else(|error| panic!("{to}: {error}"));
            SocketAddrV6::new(ip, port, 0, index).into()
        }
        ip => SocketAddr::new(ip, port),
    }
}

fn try_open(ns: &str, proto: Proto, to: &str, port: u16, patience: Duration) -> Option<Flow> {
    let mut flow = inside(ns, || {
        // A scope is the index of an interface there.
        let to = address(to, port);
        match proto {
            Proto::Tcp => TcpStream::connect_timeout(&to, patience).map(Flow::Tcp).ok(),
            Proto::Udp => {
                let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).ok()?;
                socket.connect(to).ok()?;
                Some(Flow::Udp(socket))
            }
        }
    })?;
    flow.exchange(patience).then_some(flow)
}

/// Opens a flow that must be answered.
pub(crate) fn open(ns: &str, proto: Proto, to: &str, port: u16) -> Option<Flow> {
    try_open(ns, proto, to, port, PATIENCE)
}

/// Whether a new flow is answered.
pub(crate) fn begins(ns: &str, proto: Proto, to: &str, port: u16) -> bool {
    try_open(ns, proto, to, port, SILENCE).is_some()
}

/// Sends datagrams all the time, also before there is a way.
pub(crate) struct Knocking {
    sent: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn knock(ns: &str, to: &str, port: u16) -> Knocking {
    let socket = inside(ns, || UdpSocket::bind("0.0.0.0:0").expect("a socket"));
    let (sent, end): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
    let (count, ends, to) = (sent.clone(), end.clone(), address(to, port));
    let thread = thread::spawn(move || {
        while !ends.load(Ordering::Relaxed) {
            if socket.send_to(b"?", to).is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(2));
            }
            thread::yield_now();
        }
    });
    Knocking { sent, end, thread: Some(thread) }
}

impl Knocking {
    /// Waits until one more has left the container.
    pub(crate) fn has_begun(&self) {
        let before = self.sent.load(Ordering::Relaxed);
        until("it is sent", || (self.sent.load(Ordering::Relaxed) > before).then_some(()));
    }

    /// Sends no more.
    pub(crate) fn stop(mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }

    /// Waits until so many more have left the container, and the last of them has had time to arrive.
    pub(crate) fn until_sent(mut self, count: u64) {
        let before = self.sent.load(Ordering::Relaxed);
        until("it is sent", || (self.sent.load(Ordering::Relaxed) >= before + count).then_some(()));
        thread::park_timeout(SILENCE);
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// The rules that the kernel evaluates meanwhile, without what differs between packets.
pub(crate) fn trace(work: impl FnOnce()) -> Vec<String> {
    let mut monitor = Command::new("nsenter");
    monitor.args(["--net=/run/netns/host", "--", "stdbuf", "-oL", "nft", "monitor", "trace"]).stdout(Stdio::piped());
    let mut monitor = monitor.spawn().expect("nft monitor");
    let lines = BufReader::new(monitor.stdout.take().expect("its output"));
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || lines.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    thread::park_timeout(SILENCE);
    work();
    let mut rules = Vec::new();
    while let Ok(line) = told.recv_timeout(SILENCE) {
        if let Some((head, rule)) = line.split_once(" rule ")
            && head.contains(" netd ")
        {
            let chain = head.split_whitespace().skip(3).collect::<Vec<_>>().join(" ");
            rules.push(format!("{chain}: {rule}"));
        }
    }
    let _ = monitor.kill();
    let _ = monitor.wait();
    rules
}
