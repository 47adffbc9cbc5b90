//! A resolver of the host: answers every A question with one address and records the questions.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::space::inside;

/// What it answers to every A question.
pub const ANSWER: [u8; 4] = [198, 51, 100, 7];
/// Bytes before the first question (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// The resolver; it ends when dropped.
pub struct Upstream {
    asked: Arc<Mutex<Vec<String>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Starts it in a namespace; it answers when this returns.
    pub fn start(ns: &str, at: SocketAddr) -> Self {
        Self::answering(ns, at, ANSWER)
    }

    /// One that answers another address.
    pub fn answering(ns: &str, at: SocketAddr, answer: [u8; 4]) -> Self {
        let socket = inside(ns, || UdpSocket::bind(at)).unwrap_or_else(|error| panic!("bind {at} in {ns}: {error}"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let end = Arc::new(AtomicBool::new(false));
        let (names, ends) = (Arc::clone(&asked), Arc::clone(&end));
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                // Time limits, and what is no question.
                let _ = serve(&socket, &names, answer);
            }
        });
        Self { asked, end, thread: Some(thread) }
    }

    /// The names it was asked for, in lower case.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no server panicked").clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(socket: &UdpSocket, asked: &Mutex<Vec<String>>, answer: [u8; 4]) -> io::Result<()> {
    let mut query = [0; 1500];
    let (length, client) = socket.recv_from(&mut query)?;
    let (name, end) = question(&query[..length]).ok_or_else(|| io::Error::other("no question"))?;
    let kind = u16::from_be_bytes([query[end - 4], query[end - 3]]);
    if let Ok(mut asked) = asked.lock() {
        asked.push(name);
    }
    let mut reply = query[..end].to_vec();
    let has_answer = kind == 1;
    // A response, recursion desired and available; one question, the answer if any, nothing else.
    reply[2..HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(has_answer), 0, 0, 0, 0]);
    if has_answer {
        // The question's name by pointer, type A, class IN, 60 s, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(answer);
    }
    socket.send_to(&reply, client).map(drop)
}

/// The name asked for, in lower case without the final dot, and where the question ends.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    let end = at + 5;
    (query.len() >= end).then(|| (labels.join("."), end))
}
