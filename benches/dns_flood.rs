//! `scripts/bench dns-flood`: what names cost everybody else while one container floods its gateway with questions as fast
//! as it can, and a busy loop runs on each processor. Fails when a question of theirs is lost, or one in a hundred takes
//! longer than the bound.
//!
//! Each part is a process in a session of its own, as a service and containers are: Linux shares processors between
//! sessions first (sched(7), autogroup). The time of an answer is taken by the kernel, when it comes to the client's
//! socket: how long the client waits for a processor then is not the name service's doing.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::io::{IoSliceMut, Read as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use netd_testing::lab::space::inside;
use netd_testing::lab::{self, Lab};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimestampns};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use nix::unistd::{Pid, setsid};

const NETWORK: &str = "net1";
const FLOODER: &str = "flooder";
/// Containers that ask, in turns.
const ASKERS: usize = 24;
/// Their questions, and how many in a second.
const QUESTIONS: usize = 10_000;
const RATE: u32 = 1000;
/// One that is not answered so long after the last one was asked is lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// The bound on the 99th percentile.
const P99_MAX: Duration = Duration::from_millis(2);
/// Between two starts, so that one is under way when the next comes.
const SETTLE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["busy", cpu] => busy(cpu.parse().unwrap()),
        ["flood", server] => flood(server.parse().unwrap()),
        ["ask", server] => ask(server.parse().unwrap()),
        _ => measure(),
    }
}

fn measure() -> ExitCode {
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let lab = Lab::new();
    lab.start_daemon();
    lab.netd(&format!("network create {NETWORK} --subnet 10.100.0.0/24")).ok();
    lab.connected(NETWORK, FLOODER, "");
    (0..ASKERS).for_each(|number| lab.connected(NETWORK, &client(number), ""));
    let gateway = lab.network(NETWORK)["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut held = true;
    let mut others: Vec<Process> = Vec::new();
    for what in ["nothing else runs", "a busy loop on each processor", "and a flood of one container"] {
        match others.len() {
            0 if what.starts_with('a') => {
                others.extend((0..processors).map(|cpu| Process::start(&["busy", &cpu.to_string()])));
            }
            0 => {}
            _ => others.push(Process::start(&["flood", &gateway])),
        }
        std::thread::park_timeout(SETTLE);
        let outcome = Process::start(&["ask", &gateway]).finish();
        println!("{what}: {outcome}");
        held = outcome.ends_with("held");
    }
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn client(number: usize) -> String {
    format!("client{number}")
}

/// A part of the measurement; it is ended with this.
struct Process(Child);

impl Process {
    fn start(words: &[&str]) -> Self {
        let this = std::env::current_exe().expect("the path of this program");
        let mut command = Command::new(this);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.spawn().expect("it starts"))
    }

    /// What it said in the end.
    fn finish(mut self) -> String {
        let mut output = String::new();
        self.0.stdout.take().expect("a pipe").read_to_string(&mut output).expect("text");
        output.trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn busy(cpu: usize) -> ExitCode {
    setsid().expect("a session");
    let mut only = CpuSet::new();
    only.set(cpu).expect("a processor");
    sched_setaffinity(Pid::from_raw(0), &only).expect("a processor of its own");
    loop {
        std::hint::spin_loop();
    }
}

fn question(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).expect("a name"), kind));
    message.to_vec().expect("a message")
}

/// Names of ours, names that are nobody's, and a type that only the slow way knows; answers are not read.
fn flood(server: IpAddr) -> ExitCode {
    setsid().expect("a session");
    let socket = inside(FLOODER, || UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    socket.connect(SocketAddr::new(server, 53)).expect("a route");
    let messages = [
        question(1, "asker1", RecordType::A),
        question(2, "asker2.net1.internal", RecordType::AAAA),
        question(3, "nosuch", RecordType::A),
        question(4, "nosuch", RecordType::NAPTR),
    ];
    loop {
        for message in &messages {
            // What the kernel does not take is lost, to the flooder.
            let _ = socket.send(message);
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set")
}

/// All clients' questions, one after the other at the rate, whether or not those before have been answered.
fn ask(server: IpAddr) -> ExitCode {
    setsid().expect("a session");
    let sockets: Vec<UdpSocket> = (0..ASKERS)
        .map(|number| {
            let socket = inside(&client(number), || UdpSocket::bind("0.0.0.0:0")).expect("a socket");
            socket.connect(SocketAddr::new(server, 53)).expect("a route");
            socket.set_nonblocking(true).expect("a non-blocking socket");
            setsockopt(&socket, ReceiveTimestampns, &true).expect("times");
            let _ = setsockopt(&socket, RcvBufForce, &(1 << 20));
            socket
        })
        .collect();
    let mut sent: Vec<Option<Duration>> = vec![None; QUESTIONS];
    let mut times = Vec::new();
    let gap = Duration::from_secs(1) / RATE;
    let (mut due, mut last) = (Instant::now(), Instant::now());
    let mut asked = 0;
    while times.len() < QUESTIONS && (asked < QUESTIONS || last.elapsed() < PATIENCE) {
        if asked < QUESTIONS && due <= Instant::now() {
            let message = question(asked as u16, &client(asked % ASKERS), RecordType::A);
            sent[asked] = Some(now());
            // What the kernel does not take counts as lost.
            let _ = sockets[asked % ASKERS].send(&message);
            asked += 1;
            (due, last) = (due + gap, Instant::now());
        }
        let mut fds: Vec<PollFd<'_>> =
            sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        let wait = due.saturating_duration_since(Instant::now()).min(Duration::from_millis(1));
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(wait)), None);
        for socket in &sockets {
            while let Some((id, came)) = take(socket) {
                let since = sent.get_mut(id).and_then(Option::take).expect("one answer for each question");
                times.push(came.saturating_sub(since));
            }
        }
    }
    times.sort();
    let percentile = |per_mille: usize| times.get(times.len() * per_mille / 1000).copied().unwrap_or(Duration::MAX);
    let (lost, p99) = (QUESTIONS - times.len(), percentile(990));
    let held = if lost == 0 && p99 <= P99_MAX { "held" } else { "missed" };
    println!(
        "{QUESTIONS} questions of {ASKERS} other containers: {lost} lost, p50 {:.0?}, p99 {p99:.0?}, p99.9 {:.0?}; {held}",
        percentile(500),
        percentile(999)
    );
    ExitCode::SUCCESS
}

/// The id of an answer, and when it came to the socket.
fn take(socket: &UdpSocket) -> Option<(usize, Duration)> {
    let mut buffer = [0; 1232];
    let mut space = nix::cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let got =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT).ok()?;
    let came = got.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    })?;
    Some((usize::from(u16::from_be_bytes([buffer[0], buffer[1]])), came))
}
