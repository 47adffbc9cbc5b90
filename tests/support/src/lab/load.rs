//! A load generator for the name service: checks and times every answer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use nix::sys::time::TimeSpec;

use super::space::inside;

/// Bytes of a message's header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// A question without an answer this long after the last question counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of wrong answers kept for the report.
const SHOWN: usize = 5;

/// A question for an IPv4 address.
#[derive(Debug, Clone)]
pub struct Question {
    /// Without the final dot.
    pub name: String,
    /// The only right answer; `None`: any reply will do.
    pub expected: Option<Ipv4Addr>,
}

/// The rate of questions.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Questions in a second, at most.
    pub rate: u32,
    /// Questions that wait for their answers, at most.
    pub window: usize,
}

/// The result.
#[derive(Debug, Default)]
pub struct Tally {
    /// Questions that were sent.
    pub asked: u64,
    /// Answers as expected.
    pub right: u64,
    /// Answers that are not, the first few.
    pub wrong: Vec<String>,
    /// Questions without an answer.
    pub lost: Vec<String>,
    /// From each question to its right answer.
    pub times: Vec<Duration>,
}

/// The client, on a thread of its own; it stops when dropped.
pub struct Load {
    end: Arc<AtomicBool>,
    /// Questions that wait for their answers.
    waiting: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<Tally>>,
}

impl Load {
    /// Asks the server from inside a namespace until it is told to end; the question for each number from 0 on.
    pub fn start(ns: &str, server: IpAddr, pace: Pace, question: impl FnMut(u64) -> Question + Send + 'static) -> Self {
        let socket = inside(ns, || UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        // Without privileges it is less, which is enough for moderate loads.
        let _ = setsockopt(&socket, RcvBufForce, &(8 << 20));
        socket.connect(SocketAddr::new(server, 53)).expect("a route to the server");
        socket.set_nonblocking(true).expect("a non-blocking socket");
        let (end, waiting, answered) = (Arc::default(), Arc::default(), Arc::default());
        let client = Client {
            socket,
            pace,
            question: Box::new(question),
            end: Arc::clone(&end),
            waiting_seen: Arc::clone(&waiting),
            answered_seen: Arc::clone(&answered),
            waiting: HashMap::new(),
            tally: Tally::default(),
        };
        Self { end, waiting, answered, thread: Some(thread::spawn(move || client.run())) }
    }

    /// How many questions wait for their answers now.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many answers there have been.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stops asking, waits for outstanding answers, and returns the result.
    pub fn finish(mut self) -> Tally {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().expect("it was started").join().expect("the client")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

struct Client {
    socket: UdpSocket,
    pace: Pace,
    question: Box<dyn FnMut(u64) -> Question + Send>,
    end: Arc<AtomicBool>,
    waiting_seen: Arc<AtomicU64>,
    answered_seen: Arc<AtomicU64>,
    waiting: HashMap<u16, Waiting>,
    tally: Tally,
}

struct Waiting {
    question: Question,
    message: Vec<u8>,
    since: Instant,
}

impl Client {
    fn run(mut self) -> Tally {
        let gap = Duration::from_secs(1) / self.pace.rate;
        let mut due = Instant::now();
        while !self.end.load(Ordering::Relaxed) {
            let now = Instant::now();
            if due <= now && self.waiting.len() < self.pace.window {
                self.ask(now);
                // Missed questions are not made up for in a burst.
                due = (due + gap).max(now.checked_sub(10 * gap).unwrap_or(now));
            }
            self.listen(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(20)));
        }
        let asked_last = Instant::now();
        while !self.waiting.is_empty() && asked_last.elapsed() < PATIENCE {
            self.listen(Duration::from_millis(20));
        }
        let Self { mut tally, waiting, .. } = self;
        tally.lost.extend(waiting.into_values().map(|waiting| waiting.question.name));
        tally
    }

    fn ask(&mut self, now: Instant) {
        let number = self.tally.asked;
        let question = (self.question)(number);
        let message = message(number as u16, &question.name);
        // A full queue counts as lost.
        let _ = self.socket.send(&message);
        self.tally.asked += 1;
        let forgotten = self.waiting.insert(number as u16, Waiting { question, message, since: now });
        self.tally.lost.extend(forgotten.map(|forgotten| forgotten.question.name));
        self.waiting_seen.store(self.waiting.len() as u64, Ordering::Relaxed);
    }

    /// Receives replies, waiting if necessary.
    fn listen(&mut self, patience: Duration) {
        let mut buffer = [0; 1500];
        let mut length = self.socket.recv(&mut buffer);
        if length.is_err() && !patience.is_zero() {
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(patience)), None);
            length = self.socket.recv(&mut buffer);
        }
        let now = Instant::now();
        while let Ok(count) = length {
            self.take(&buffer[..count], now);
            length = self.socket.recv(&mut buffer);
        }
        self.waiting_seen.store(self.waiting.len() as u64, Ordering::Relaxed);
    }

    fn take(&mut self, reply: &[u8], now: Instant) {
        let id = reply.first_chunk().map(|id| u16::from_be_bytes(*id));
        let Some(asked) = id.and_then(|id| self.waiting.remove(&id)) else {
            return self.wrong(format!("an unexpected reply: {reply:?}"));
        };
        self.answered_seen.fetch_add(1, Ordering::Relaxed);
        if is_right(&asked, reply) {
            self.tally.right += 1;
            self.tally.times.push(now - asked.since);
        } else {
            self.wrong(format!("{}: {reply:?}", asked.question.name));
        }
    }

    fn wrong(&mut self, what: String) {
        if self.tally.wrong.len() < SHOWN {
            self.tally.wrong.push(what);
        }
    }
}

/// NOERROR, the question as it was asked, and one answer, which is the last thing in the message.
fn is_right(asked: &Waiting, reply: &[u8]) -> bool {
    let Some(expected) = asked.question.expected else { return true };
    let same_question = reply.get(HEADER..asked.message.len()) == Some(&asked.message[HEADER..]);
    same_question
        && reply[3] & 0x0f == 0
        && reply[6..HEADER] == [0, 1, 0, 0, 0, 0]
        && reply.ends_with(&expected.octets())
}

/// A question of class IN for A, recursion desired.
fn message(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a short label"));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}
