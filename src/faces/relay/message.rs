//! What the relay reads of messages of mDNS and SSDP (pure).

use std::time::Duration;

use super::wire::number;
use crate::model::relay::Protocol;

/// Bytes of a DNS header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// The bit that says response, and those of the kind of query (RFC 6762, 18.2 and 18.3).
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
/// The bit of a question's class that asks for an answer by unicast (RFC 6762, 5.4).
const UNICAST: u8 = 0x80;
/// How long a responder may take to answer a legacy question: it may wait for half a second (RFC 6762, 6 and 7.2).
const LEGACY: Duration = Duration::from_secs(2);
/// The seconds in which a search wants answers, where it does not say, and at most (UPnP Device Architecture 2.0, 1.3.2).
const MX: u64 = 3;
const MX_MOST: u64 = 5;
/// What answers take on their way.
const LATE: Duration = Duration::from_secs(1);

/// What a message is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// To be sent on to the group: these bytes.
    Spread(Vec<u8>),
    /// To be sent on to the group: these bytes. Answers go to the sender, during this time.
    Search(Vec<u8>, Duration),
    /// An answer to one who searched.
    Answer,
}

/// Reads a message that came from this port; `None`: it is to be ignored.
pub(super) fn read(protocol: Protocol, from_port: u16, payload: &[u8]) -> Option<Message> {
    match protocol {
        Protocol::Mdns => mdns(from_port, payload),
        Protocol::Ssdp => ssdp(payload),
    }
}

fn mdns(from_port: u16, payload: &[u8]) -> Option<Message> {
    let is_peer = from_port == super::wire::port(Protocol::Mdns);
    let flags = number(payload, 2).filter(|flags| flags & OPCODE == 0)?;
    if payload.len() < HEADER {
        return None;
    }
    if flags & RESPONSE != 0 {
        // From any other port it is to be ignored (RFC 6762, 6).
        return is_peer.then(|| Message::Spread(payload.to_vec()));
    }
    let query = for_all(payload)?;
    Some(if is_peer { Message::Spread(query) } else { Message::Search(query, LEGACY) })
}

/// The query with its questions asking for answers to the group: those by unicast would go to this host and not to the one
/// who asks.
fn for_all(query: &[u8]) -> Option<Vec<u8>> {
    let mut query = query.to_vec();
    let mut at = HEADER;
    for _ in 0..number(&query, 4)? {
        at = after_name(&query, at)? + 4;
        *query.get_mut(at - 2)? &= !UNICAST;
        query.get(at - 1)?;
    }
    Some(query)
}

/// Where the name that begins there ends.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            // A pointer ends the name (RFC 1035, 4.1.4).
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn ssdp(payload: &[u8]) -> Option<Message> {
    let head = payload.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut lines = head.map_while(|line| std::str::from_utf8(line).ok());
    match lines.next()? {
        "NOTIFY * HTTP/1.1" => Some(Message::Spread(payload.to_vec())),
        "M-SEARCH * HTTP/1.1" => {
            let mut fields = lines.filter_map(|line| line.split_once(':'));
            let mx = fields.find(|(name, _)| name.trim().eq_ignore_ascii_case("mx"));
            let mx = mx.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(MX).min(MX_MOST);
            Some(Message::Search(payload.to_vec(), Duration::from_secs(mx) + LATE))
        }
        status if status.starts_with("HTTP/1.1 200") => Some(Message::Answer),
        _ => None,
    }
}

/// Whether it is an answer to one who searched.
pub(super) fn is_answer(protocol: Protocol, from_port: u16, payload: &[u8]) -> bool {
    match protocol {
        Protocol::Mdns => {
            from_port == super::wire::port(protocol)
                && payload.len() >= HEADER
                && number(payload, 2).is_some_and(|flags| flags & RESPONSE != 0)
        }
        Protocol::Ssdp => read(protocol, from_port, payload) == Some(Message::Answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for `a.local`, with this class.
    fn question(class: u16) -> Vec<u8> {
        let mut query = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 5];
        query.extend(b"local\0\0\x01");
        query.extend(class.to_be_bytes());
        query
    }

    #[test]
    fn a_question_asks_for_answers_to_the_group() {
        assert_eq!(read(Protocol::Mdns, 5353, &question(0x8001)), Some(Message::Spread(question(1))));
        assert_eq!(read(Protocol::Mdns, 5353, &question(1)), Some(Message::Spread(question(1))));
        let legacy = read(Protocol::Mdns, 40000, &question(1));
        assert_eq!(legacy, Some(Message::Search(question(1), LEGACY)));
    }

    #[test]
    fn several_questions_may_share_a_name() {
        let mut query = question(0x8001);
        query[5] = 2;
        query.extend([0xc0, 12, 0, 28, 0x80, 1]);
        let Some(Message::Spread(spread)) = read(Protocol::Mdns, 5353, &query) else { panic!("it is a query") };
        assert_eq!((spread[spread.len() - 2], spread[query.len() - 8]), (0, 0));
    }

    #[test]
    fn what_is_no_message_is_ignored() {
        let whole = question(1);
        for length in 0..whole.len() {
            assert_eq!(read(Protocol::Mdns, 5353, &whole[..length]), None, "{length} bytes");
        }
        let mut response = question(1);
        response[2] = 0x84;
        assert_eq!(read(Protocol::Mdns, 40000, &response), None, "a response comes from port 5353");
        assert!(is_answer(Protocol::Mdns, 5353, &response) && !is_answer(Protocol::Mdns, 40000, &response));
        response[2] = 0x28;
        assert_eq!(read(Protocol::Mdns, 5353, &response), None, "no query, but an update");
        for text in ["", "GET / HTTP/1.1\r\n", "NOTIFY / HTTP/1.1\r\n", "\u{0}"] {
            assert_eq!(read(Protocol::Ssdp, 1900, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_search_says_how_long_it_waits() {
        let until = |mx: &str| match read(Protocol::Ssdp, 1, format!("M-SEARCH * HTTP/1.1\r\n{mx}\r\n").as_bytes()) {
            Some(Message::Search(_, time)) => time.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([until("MX: 1\r\n"), until("mx:2\r\n"), until(""), until("MX: 900\r\n")], [2, 3, 4, 6]);
        assert!(is_answer(Protocol::Ssdp, 1, b"HTTP/1.1 200 OK\r\nST: x\r\n\r\n"));
    }
}
