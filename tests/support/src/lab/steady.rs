//! A UDP client that keeps its source port and sends all the time, as a game or a telephone does: its packets keep a
//! connection tracking entry alive.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::space::inside;
use crate::wait::{seen, until_within};

/// From one packet to the next.
const EVERY: Duration = Duration::from_millis(20);

/// The client, on a thread of its own; it stops when dropped.
pub struct Steady {
    end: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    /// What was answered last, and how many packets had been sent by then.
    last: Arc<Mutex<(u64, String)>>,
    what: String,
    thread: Option<JoinHandle<()>>,
}

impl Steady {
    /// Sends from that port of the namespace to the address from now on.
    pub fn start(ns: &str, from: u16, (ip, port): (&str, u16)) -> Self {
        let ip: IpAddr = ip.parse().expect("an IP address");
        let to = SocketAddr::new(ip, port);
        let any = if ip.is_ipv4() { "0.0.0.0" } else { "::" };
        let at: SocketAddr = SocketAddr::new(any.parse().expect("an address"), from);
        let socket = inside(ns, || UdpSocket::bind(at)).unwrap_or_else(|error| panic!("bind {at} in {ns}: {error}"));
        socket.set_read_timeout(Some(EVERY)).expect("a time limit");
        let (end, sent, last) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::default());
        let (ends, count, answers): (_, _, Arc<Mutex<(u64, String)>>) = (end.clone(), sent.clone(), Arc::clone(&last));
        let thread = thread::spawn(move || {
            let mut buffer = [0; 128];
            while !ends.load(Ordering::Relaxed) {
                // Nobody may be there: an ICMP error is an answer of its kind.
                let _ = socket.send_to(b"who", to);
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                if let Ok((length, _)) = socket.recv_from(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    let who = text.split(' ').next().unwrap_or_default().to_owned();
                    *answers.lock().expect("no panic") = (number, who);
                    thread::park_timeout(EVERY);
                }
            }
        });
        Self { end, sent, last, what: format!("{ns}:{from} to {to}"), thread: Some(thread) }
    }

    /// Waits, at most a second, until `who` answers a packet that is sent from now on.
    #[track_caller]
    pub fn is_answered_by(&self, who: &str) {
        // A packet may be on its way, and its answer.
        let from = self.sent.load(Ordering::Relaxed) + 2;
        let last = || self.last.lock().expect("no panic").clone();
        let what = format!("{} is answered by {who}", self.what);
        until_within(Duration::from_secs(1), &what, || seen(last(), |(number, last)| *number >= from && last == who));
    }

    /// Waits until further packets have been sent, none of which is answered.
    #[track_caller]
    pub fn is_not_answered(&self) {
        let from = self.sent.load(Ordering::Relaxed) + 2;
        until_within(Duration::from_secs(5), "it sends", || {
            seen(self.sent.load(Ordering::Relaxed), |sent| *sent >= from + 10)
        });
        let last = self.last.lock().expect("no panic").clone();
        assert!(last.0 < from, "{}: answered by {}", self.what, last.1);
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}
