//! A question for an upstream, and the key that identifies it in the cache and among the in-flight questions.

use hickory_proto::op::{Message, Query as Asked};
use hickory_proto::rr::RecordType;

use crate::faces::dns::message::wire::{HEADER, Query};

/// Bytes of the longest key: set, flags, name, type.
const KEY_MAX: usize = BEFORE_NAME + 255 + 2;
const BEFORE_NAME: usize = 9;

/// The client's flags that an upstream must see. Different flags can have different answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// RD. Without it an upstream answers only from what it already knows.
    pub(crate) recursion_desired: bool,
    /// AD in a question: the client wants to know whether the answer was validated (RFC 6840, 5.7).
    pub(crate) authentic_data: bool,
    /// CD: the client validates itself.
    pub(crate) checking_disabled: bool,
    /// DO: the client wants the signatures (RFC 3225).
    pub(crate) dnssec_ok: bool,
}

/// A question for an upstream.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// Name (in the client's letter case), type and class.
    pub(crate) query: Asked,
    pub(crate) flags: Flags,
}

/// Identifies the set of upstreams, the question and the flags.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    bytes: [u8; KEY_MAX],
    length: usize,
}

impl Question {
    pub(crate) fn of(request: &Message, query: &Asked) -> Self {
        let metadata = &request.metadata;
        let flags = Flags {
            recursion_desired: metadata.recursion_desired,
            authentic_data: metadata.authentic_data,
            checking_disabled: metadata.checking_disabled,
            dnssec_ok: request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
        };
        Self { query: query.clone(), flags }
    }

    /// The key, still without a set of upstreams.
    pub(crate) fn key(&self) -> Key {
        let mut key = Key::new(self.flags);
        for label in self.query.name() {
            // A label has at most 63 bytes, and a name at most 255 including length bytes.
            key.push(&[u8::try_from(label.len()).unwrap_or_default()]);
            key.push(label);
        }
        key.push(&[0]);
        key.end(self.query.query_type())
    }

    /// Name and type in wire format, in the client's letter case.
    pub(crate) fn as_asked(&self) -> Vec<u8> {
        let labels = self.query.name().iter();
        let mut bytes: Vec<u8> = labels
            .flat_map(|label| [u8::try_from(label.len()).unwrap_or_default()].into_iter().chain(label.iter().copied()))
            .collect();
        bytes.push(0);
        bytes.extend(u16::from(self.query.query_type()).to_be_bytes());
        bytes
    }
}

impl Query<'_> {
    /// The same key as that of a [`Question`].
    pub(crate) fn key(&self) -> Key {
        let mut key = Key::new(Flags {
            recursion_desired: self.head[2] & 0x01 != 0,
            authentic_data: self.head[3] & 0x20 != 0,
            checking_disabled: self.head[3] & 0x10 != 0,
            dnssec_ok: self.edns.is_some_and(|edns| edns.dnssec_ok),
        });
        key.push(&self.question[..self.question.len() - 4]);
        key.end(self.kind.into())
    }

    /// The offset of the end of the question in the message.
    pub(crate) fn end(&self) -> usize {
        HEADER + self.question.len()
    }
}

impl Key {
    fn new(flags: Flags) -> Self {
        let Flags { recursion_desired, authentic_data, checking_disabled, dnssec_ok } = flags;
        let mut bytes = [0; KEY_MAX];
        for (place, flag) in [recursion_desired, authentic_data, checking_disabled, dnssec_ok].into_iter().enumerate() {
            bytes[BEFORE_NAME - 1] |= u8::from(flag) << place;
        }
        Self { bytes, length: BEFORE_NAME }
    }

    /// Appends a part of the name in lower case. This does not change length bytes, which are less than any letter.
    fn push(&mut self, part: &[u8]) {
        let end = (self.length + part.len()).min(KEY_MAX - 2);
        let to = &mut self.bytes[self.length..end];
        to.copy_from_slice(&part[..to.len()]);
        to.make_ascii_lowercase();
        self.length = end;
    }

    fn end(mut self, kind: RecordType) -> Self {
        self.bytes[self.length..self.length + 2].copy_from_slice(&u16::from(kind).to_be_bytes());
        self.length += 2;
        self
    }

    /// The key with the set of upstreams to ask.
    pub(crate) fn of_set(mut self, set: u64) -> Self {
        self.bytes[..BEFORE_NAME - 1].copy_from_slice(&set.to_be_bytes());
        self
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Name and type, without the set of upstreams and the flags.
    pub(crate) fn question(&self) -> &[u8] {
        &self.bytes[BEFORE_NAME..self.length]
    }

    /// The same part of the bytes of a key.
    pub(crate) fn question_of(key: &[u8]) -> &[u8] {
        key.get(BEFORE_NAME..).unwrap_or_default()
    }

    /// The name in lower case in wire format, including the root's byte.
    pub(crate) fn name(&self) -> &[u8] {
        &self.bytes[BEFORE_NAME..self.length - 2]
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Edns, MessageType, OpCode};
    use hickory_proto::rr::Name;

    use super::*;
    use crate::faces::dns::message::wire;
    use crate::faces::dns::message::wire::Incoming;

    #[test]
    fn both_readers_make_the_same_key() {
        for bits in 0u8..16 {
            let flag = |place: u8| bits & (1 << place) != 0;
            let mut message = Message::new(1, MessageType::Query, OpCode::Query);
            message.add_query(Asked::query(Name::from_ascii("wWw.Example.com.").unwrap(), RecordType::HTTPS));
            message.metadata.recursion_desired = flag(0);
            message.metadata.authentic_data = flag(1);
            message.metadata.checking_disabled = flag(2);
            let mut edns = Edns::new();
            message.set_edns(edns.set_dnssec_ok(flag(3)).clone());
            let bytes = message.to_vec().unwrap();
            let Incoming::Query(query) = wire::read(&bytes) else { panic!() };
            let question = Question::of(&message, &message.queries[0]);
            let (one, other) = (query.key().of_set(7), question.key().of_set(7));
            assert_eq!(one.as_bytes(), other.as_bytes());
            assert_eq!(one.as_bytes()[8], bits);
            assert_eq!(one.name(), b"\x03www\x07example\x03com\0");
            assert_eq!(one.question(), b"\x03www\x07example\x03com\0\0\x41");
            assert_eq!(question.as_asked(), b"\x03wWw\x07Example\x03com\0\0\x41");
        }
    }
}
