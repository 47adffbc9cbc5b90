//! A DHCP server whose answers are made by hand, in the namespace `outside`.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use netd_testing::lab::space::inside;

pub(super) const DISCOVER: u8 = 1;
pub(super) const OFFER: u8 = 2;
pub(super) const REQUEST: u8 = 3;
pub(super) const DECLINE: u8 = 4;
pub(super) const ACK: u8 = 5;
pub(super) const NAK: u8 = 6;
pub(super) const RELEASE: u8 = 7;

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) kind: u8,
    /// The address that it has.
    pub(super) own: Ipv4Addr,
    /// The last byte of its MAC address.
    pub(super) client: u8,
    /// The address in its options.
    pub(super) wants: Option<[u8; 4]>,
}

impl Asked {
    /// Whether it wants to keep its address.
    pub(super) fn keeps(self) -> bool {
        self.kind == REQUEST && !self.own.is_unspecified()
    }
}

/// What the server says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) kind: u8,
    pub(super) address: [u8; 4],
    pub(super) seconds: u32,
}

type Script = Arc<Mutex<Box<dyn FnMut(Asked) -> Option<Said> + Send>>>;

/// The server; it ends with the laboratory.
pub(super) struct Scripted {
    pub(super) heard: Receiver<Asked>,
    script: Script,
}

impl Scripted {
    pub(super) fn start(script: impl FnMut(Asked) -> Option<Said> + Send + 'static) -> Self {
        let socket = inside("outside", || UdpSocket::bind("0.0.0.0:67")).expect("port 67");
        socket.set_broadcast(true).expect("broadcasts");
        let (tell, heard) = channel();
        let script: Script = Arc::new(Mutex::new(Box::new(script)));
        let answers = script.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                let question = &buffer[..length];
                let Some(asked) = read(question) else { continue };
                let answer = (answers.lock().expect("a script"))(asked);
                if tell.send(asked).is_err() {
                    return;
                }
                if let Some(said) = answer {
                    socket.send_to(&write(question, said), "192.0.2.255:68").expect("send an answer");
                }
            }
        });
        Self { heard, script }
    }

    /// The next thing heard that is so.
    pub(super) fn hears(&self, what: &str, is_it: impl Fn(Asked) -> bool) -> Asked {
        let end = Instant::now() + Duration::from_secs(30);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match self.heard.recv_timeout(left) {
                Ok(asked) if is_it(asked) => return asked,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        panic!("the server did not hear {what}");
    }

    pub(super) fn says(&self, script: impl FnMut(Asked) -> Option<Said> + Send + 'static) {
        *self.script.lock().expect("a script") = Box::new(script);
    }
}

fn options(message: &[u8]) -> Vec<(u8, &[u8])> {
    let (mut options, mut rest) = (Vec::new(), message.get(240..).unwrap_or_default());
    while let [code, length, more @ ..] = rest
        && *code != 255
        && *code != 0
        && more.len() >= usize::from(*length)
    {
        let (data, others) = more.split_at(usize::from(*length));
        options.push((*code, data));
        rest = others;
    }
    options
}

fn read(message: &[u8]) -> Option<Asked> {
    let option = |wanted| options(message).into_iter().find(|(code, _)| *code == wanted).map(|(_, data)| data);
    let kind = option(53)?[0];
    let own = <[u8; 4]>::try_from(&message[12..16]).ok()?.into();
    let wants = option(50).and_then(|address| address.try_into().ok());
    Some(Asked { kind, own, client: message[33], wants })
}

fn write(question: &[u8], said: Said) -> Vec<u8> {
    let mut answer = question[..240].to_vec();
    answer[0] = 2;
    answer[16..20].copy_from_slice(&said.address);
    answer.extend([53, 1, said.kind, 54, 4, 192, 0, 2, 2]);
    if said.kind != NAK {
        answer.extend([1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 2, 51, 4]);
        answer.extend(said.seconds.to_be_bytes());
    }
    answer.push(255);
    answer
}

/// Gives this address for so many seconds.
pub(super) fn gives(last: u8, seconds: u32) -> impl FnMut(Asked) -> Option<Said> + Send + 'static {
    move |asked| {
        let kind = match asked.kind {
            DISCOVER => OFFER,
            REQUEST => ACK,
            _ => return None,
        };
        Some(Said { kind, address: [192, 0, 2, last], seconds })
    }
}
