//! Traffic that must not notice what happens to the daemon: an HTTP request every 10 ms, and TCP streams that last.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::space::inside;

/// The port of the HTTP server, that of the server that sends back what it gets, and that of the one that only sends.
pub const HTTP: u16 = 80;
/// See [`HTTP`].
pub const ECHO: u16 = 7;
/// See [`HTTP`].
pub const TALK: u16 = 19;
/// From one request or message to the next.
const EVERY: Duration = Duration::from_millis(10);
/// The kernel sends a lost packet again after this time (`TCP_TIMEOUT_INIT`): what takes as long has lost one.
const LOST: Duration = Duration::from_secs(1);
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a server checks whether it should end.
const TICK: TimeVal = TimeVal::new(0, 50_000);

/// The three servers in one container; they end when dropped.
pub struct Servers {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Starts them in a namespace; they answer when this returns.
    pub fn start(ns: &str) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let start = |port: u16, serve: fn(TcpStream) -> io::Result<()>| {
            let listener = inside(ns, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
            let listener = listener.unwrap_or_else(|error| panic!("listen on {port} in {ns}: {error}"));
            setsockopt(&listener, sockopt::ReceiveTimeout, &TICK).expect("a time limit for accept");
            let end = end.clone();
            thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    let Ok((stream, _)) = listener.accept() else { continue };
                    // What fails here fails at the client, which reports it.
                    thread::spawn(move || serve(stream));
                }
            })
        };
        let threads = vec![start(HTTP, answer), start(ECHO, send_back), start(TALK, talk)];
        Self { end, threads }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n")
}

fn send_back(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 8];
    loop {
        stream.read_exact(&mut buffer)?;
        stream.write_all(&buffer)?;
    }
}

/// Sends numbers until the client has gone.
fn talk(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    for number in 0_u64.. {
        stream.write_all(&number.to_be_bytes())?;
        thread::park_timeout(EVERY);
    }
    Ok(())
}

/// A client on a thread of its own; it stops when dropped.
pub struct Probe {
    end: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Probe {
    /// Requests a page every 10 ms, each time on a new connection.
    pub fn http(ns: &str, to: (impl ToString, u16)) -> Self {
        let to = socket_address(to);
        Self::start(ns, move |_| get(to))
    }

    /// Sends a message every 10 ms on one connection, and awaits it back.
    pub fn stream(ns: &str, to: (impl ToString, u16)) -> Self {
        let mut stream = connected(ns, to);
        Self::start(ns, move |number| {
            let (sent, mut got) = (number.to_be_bytes(), [0; 8]);
            stream.write_all(&sent)?;
            stream.read_exact(&mut got)?;
            if got == sent { Ok(()) } else { Err(io::Error::other(format!("{got:?} came back for {sent:?}"))) }
        })
    }

    /// Reads the numbers that the server sends every 10 ms on one connection. The client says nothing: the next packet is
    /// always the server's.
    pub fn listener(ns: &str, to: (impl ToString, u16)) -> Self {
        let mut stream = connected(ns, to);
        Self::start(ns, move |number| {
            let mut got = [0; 8];
            stream.read_exact(&mut got)?;
            let number = number.to_be_bytes();
            if got == number { Ok(()) } else { Err(io::Error::other(format!("{got:?} came instead of {number:?}"))) }
        })
    }

    fn start(ns: &str, mut exchange: impl FnMut(u64) -> io::Result<()> + Send + 'static) -> Self {
        let (end, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, count) = (end.clone(), done.clone());
        let path = format!("/run/netns/{ns}");
        let netns = std::fs::File::open(&path).unwrap_or_else(|error| panic!("open {path}: {error}"));
        let thread = thread::spawn(move || {
            nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).expect("the namespace");
            let mut failures = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                let begin = Instant::now();
                let outcome = exchange(count.load(Ordering::Relaxed));
                let took = begin.elapsed();
                match outcome {
                    Err(error) => failures.push(format!("{error} after {took:?}")),
                    Ok(()) if took >= LOST => failures.push(format!("it took {took:?}")),
                    Ok(()) => {}
                }
                count.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(EVERY.saturating_sub(took));
            }
            failures
        });
        Self { end, done, thread: Some(thread) }
    }

    /// How many exchanges there have been, good and bad.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends it, and fails unless every exchange was good.
    #[track_caller]
    pub fn finish(mut self, what: &str) {
        self.end.store(true, Ordering::Relaxed);
        let failures = self.thread.take().expect("it was started").join().expect("the client");
        let (count, first) = (failures.len(), failures.first());
        assert!(failures.is_empty(), "{what}: {count} of {} failed; the first: {first:?}", self.done());
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn connected(ns: &str, to: (impl ToString, u16)) -> TcpStream {
    let to = socket_address(to);
    let stream = inside(ns, || TcpStream::connect_timeout(&to, PATIENCE));
    let stream = stream.unwrap_or_else(|error| panic!("{ns} does not reach {to}: {error}"));
    stream.set_nodelay(true).expect("a setting");
    stream.set_read_timeout(Some(PATIENCE)).expect("a setting");
    stream
}

fn get(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    if reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("\r\n\r\nhi\n") {
        Ok(())
    } else {
        Err(io::Error::other(format!("a strange reply: {reply:?}")))
    }
}

fn socket_address((ip, port): (impl ToString, u16)) -> SocketAddr {
    let ip: IpAddr = ip.to_string().parse().expect("an IP address");
    SocketAddr::new(ip, port)
}
