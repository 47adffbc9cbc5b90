//! A name server outside whose answers a test chooses, and which remembers everything that it was asked.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::lab::space::inside;

/// What it answers to a name and a type: owner, time to live and data. `None`: there is no such name.
pub(crate) type Zone = dyn Fn(&str, RecordType) -> Option<Vec<(String, u32, RData)>> + Send + Sync;

/// The server; it ends when dropped.
pub(crate) struct Upstream {
    asked: Arc<Mutex<Vec<String>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    pub(crate) fn start(ns: &str, at: &str, zone: Box<Zone>) -> Self {
        let at: SocketAddr = at.parse().expect("an address");
        let socket = inside(ns, || UdpSocket::bind(at)).unwrap_or_else(|error| panic!("bind {at} in {ns}: {error}"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        let (asked, end): (Arc<Mutex<Vec<String>>>, Arc<AtomicBool>) = Default::default();
        let (names, ends) = (asked.clone(), end.clone());
        let thread = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                let Ok(request) = Message::from_vec(&buffer[..length]) else {
                    names.lock().expect("no panic").push("nonsense".into());
                    continue;
                };
                let query = &request.queries[0];
                let name = query.name().to_ascii().to_ascii_lowercase();
                let name = name.trim_end_matches('.').to_owned();
                names.lock().expect("no panic").push(format!("{name} {}", query.query_type()));
                let mut reply = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
                reply.metadata.recursion_available = true;
                reply.add_query(query.clone());
                match zone(&name, query.query_type()) {
                    None => reply.metadata.response_code = ResponseCode::NXDomain,
                    Some(records) => {
                        for (owner, ttl, data) in records {
                            let owner = Name::from_ascii(format!("{owner}.")).expect("a name");
                            reply.add_answer(Record::from_rdata(owner, ttl, data));
                        }
                    }
                }
                let _ = socket.send_to(&reply.to_vec().expect("a message"), client);
            }
        });
        Self { asked, end, thread: Some(thread) }
    }

    /// What it was asked, as `NAME TYPE`, since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

pub(crate) fn address(to: &str) -> RData {
    match to.parse().expect("an address") {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

pub(crate) fn alias(to: &str) -> RData {
    RData::CNAME(CNAME(Name::from_ascii(format!("{to}.")).expect("a name")))
}

pub(crate) fn text(text: &str) -> RData {
    RData::TXT(TXT::new(vec![text.into()]))
}

/// An HTTPS record with hints.
pub(crate) fn hints(v4: &str, v6: &str) -> RData {
    let params = vec![
        (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A(v4.parse().expect("IPv4"))]))),
        (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(vec![AAAA(v6.parse().expect("IPv6"))]))),
    ];
    RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), params)))
}
