//! Parses requests (RFC 1035, 4.1; RFC 6891, 6.1): a strict parser of ordinary questions, for the fast path. A message
//! that it does not understand is no error: the slow path parses it with hickory, which supports everything.

/// The largest UDP message that netd sends or requests. It fits every path without fragmentation (DNS flag day 2020).
pub(crate) const MAX_UDP: u16 = 1232;
/// Largest UDP message for a client without EDNS (RFC 1035, 4.2.1).
pub(crate) const PLAIN_UDP: u16 = 512;
/// Length of a message's header.
pub(crate) const HEADER: usize = 12;
/// Longest name on the wire, including the root's byte (RFC 1035, 2.3.4).
const NAME_MAX: usize = 255;
/// Class IN.
const IN: u16 = 1;
/// Type OPT.
pub(crate) const OPT: u16 = 41;
const OPT_LOW: u8 = OPT as u8;
/// Length of an OPT record without options.
const OPT_LENGTH: usize = 11;
/// EDNS options whose content hickory checks. The slow path reports errors in them.
const CHECKED_OPTIONS: [u16; 2] = [3, 8];

/// QR, in the third byte of a message.
const RESPONSE: u8 = 0x80;
/// The operation code, in the third byte.
const OPCODE: u8 = 0x78;
/// DO, in the flags of an OPT record.
const DNSSEC_OK: u16 = 0x8000;

/// The transport of a message, which limits the length of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// The kind of a message.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack for one question; a box would be an allocation each")]
pub(crate) enum Incoming<'a> {
    /// An ordinary question of class IN.
    Query(Query<'a>),
    /// A message for the slow path.
    Odd,
    /// A message that gets no reply: too short, or itself a reply (answering replies could loop).
    Nothing,
}

/// An ordinary question.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    /// ID and flags, as received.
    pub(crate) head: [u8; 4],
    /// Name, type and class, as received, to be echoed byte for byte.
    pub(crate) question: &'a [u8],
    /// The type's number.
    pub(crate) kind: u16,
    /// The requested name.
    pub(crate) name: Text,
    /// The content of the OPT record, if there is one.
    pub(crate) edns: Option<Edns>,
}

/// The relevant content of an OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The largest reply that the client accepts, in bytes.
    pub(crate) size: u16,
    /// DO (RFC 3225).
    pub(crate) dnssec_ok: bool,
}

impl Query<'_> {
    /// The UDP payload size to declare: the size that the client accepts, within netd's bounds.
    pub(crate) fn payload(&self) -> u16 {
        self.edns.map_or(PLAIN_UDP, |edns| edns.size.clamp(PLAIN_UDP, MAX_UDP))
    }

    /// The maximum length of the reply in bytes.
    pub(crate) fn limit(&self, transport: Transport) -> usize {
        match transport {
            Transport::Udp => self.payload().into(),
            Transport::Tcp => u16::MAX.into(),
        }
    }
}

/// A name in lower case, with its labels separated by dots and without the final dot. The byte at offset N is at
/// `HEADER + N + 1` on the wire, so the length of a label that begins at N is at `HEADER + N`.
pub(crate) struct Text {
    bytes: [u8; NAME_MAX],
    length: usize,
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        // It consists of ASCII letters, digits, hyphens, underscores and dots only.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The type of the first question of any message, for the counters. 0, which is no type, if there is none.
pub(crate) fn kind(message: &[u8]) -> u16 {
    let mut at = HEADER;
    // The first name of a message cannot be compressed.
    while let Some(length @ 1..=63) = message.get(at) {
        at += 1 + usize::from(*length);
    }
    message.get(at + 1..).and_then(<[u8]>::first_chunk).map_or(0, |kind| u16::from_be_bytes(*kind))
}

/// The response code of a reply of netd. Its upper bits are in the OPT record (RFC 6891, 6.1.3), which netd writes last
/// and with no other option than an extended error, behind the code of a REFUSED or NXDOMAIN.
pub(crate) fn code(reply: &[u8]) -> u16 {
    let low = reply.get(3).map_or(0, |flags| u16::from(flags & 0x0f));
    let high = match reply.last_chunk::<OPT_LENGTH>() {
        Some([0, 0, OPT_LOW, _, _, high, ..]) if reply.get(11) != Some(&0) => u16::from(*high),
        _ => 0,
    };
    high << 4 | low
}

/// Parses a message.
pub(crate) fn read(message: &[u8]) -> Incoming<'_> {
    let Some(header) = message.first_chunk::<HEADER>() else {
        return Incoming::Nothing;
    };
    if header[2] & RESPONSE != 0 {
        return Incoming::Nothing;
    }
    query(header, message).map_or(Incoming::Odd, Incoming::Query)
}

fn query<'a>(header: &[u8; HEADER], message: &'a [u8]) -> Option<Query<'a>> {
    let [i0, i1, f0, f1, counts @ .., additionals] = header;
    // One question, no answers, no authorities, at most one additional record.
    if f0 & OPCODE != 0 || *counts != [0, 1, 0, 0, 0, 0, 0] || *additionals > 1 {
        return None;
    }
    let (name, rest) = name(&message[HEADER..])?;
    let (fixed, rest) = rest.split_first_chunk::<4>()?;
    let (kind, class) = (u16::from_be_bytes([fixed[0], fixed[1]]), u16::from_be_bytes([fixed[2], fixed[3]]));
    if class != IN {
        return None;
    }
    let edns = match additionals {
        0 if rest.is_empty() => None,
        1 => Some(edns(rest)?),
        _ => return None,
    };
    let question = &message[HEADER..HEADER + name.length + 2 + fixed.len()];
    Some(Query { head: [*i0, *i1, *f0, *f1], question, kind, name, edns })
}

/// Parses the name at the beginning. Returns it and the bytes after it. Compressed names, the root, and names that need
/// escaping as text are left to the slow path.
fn name(message: &[u8]) -> Option<(Text, &[u8])> {
    let mut text = Text { bytes: [0; NAME_MAX], length: 0 };
    let mut at = 0;
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            break;
        }
        let label = message.get(at + 1..at + 1 + length)?;
        // The name including the root's byte must not exceed the maximum.
        if length > 63 || at + 1 + length + 1 > NAME_MAX || label[0] == b'-' {
            return None;
        }
        if at > 0 {
            text.bytes[at - 1] = b'.';
        }
        for (to, from) in text.bytes[at..at + length].iter_mut().zip(label) {
            if !(from.is_ascii_alphanumeric() || matches!(from, b'-' | b'_')) {
                return None;
            }
            *to = from.to_ascii_lowercase();
        }
        text.length = at + length;
        at += 1 + length;
    }
    (text.length > 0).then(|| (text, &message[at + 1..]))
}

/// Parses an OPT record of version 0 that fills the rest of the message.
fn edns(rest: &[u8]) -> Option<Edns> {
    let (fixed, mut options) = rest.split_first_chunk::<11>()?;
    let [root, t0, t1, s0, s1, _, version, f0, f1, l0, l1] = *fixed;
    let long = usize::from(u16::from_be_bytes([l0, l1]));
    if root != 0 || u16::from_be_bytes([t0, t1]) != OPT || version != 0 || long != options.len() {
        return None;
    }
    while !options.is_empty() {
        let ([c0, c1, l0, l1], rest) = options.split_first_chunk::<4>()?;
        if CHECKED_OPTIONS.contains(&u16::from_be_bytes([*c0, *c1])) {
            return None;
        }
        options = rest.get(usize::from(u16::from_be_bytes([*l0, *l1]))..)?;
    }
    let dnssec_ok = u16::from_be_bytes([f0, f1]) & DNSSEC_OK != 0;
    Some(Edns { size: u16::from_be_bytes([s0, s1]), dnssec_ok })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for `web.Net1` A, without EDNS.
    const PLAIN: &[u8] = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03web\x04Net1\0\0\x01\0\x01";
    const OPT_4096: &[u8] = b"\0\0\x29\x10\0\0\0\x80\0\0\0";

    fn with(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut message = PLAIN.to_vec();
        change(&mut message);
        message
    }

    #[track_caller]
    fn odd(change: impl Fn(&mut Vec<u8>)) {
        assert!(matches!(read(&with(change)), Incoming::Odd));
    }

    #[test]
    fn an_ordinary_question_is_read() {
        let Incoming::Query(query) = read(PLAIN) else { panic!() };
        assert_eq!(
            (query.name.as_str(), query.kind, query.edns, query.limit(Transport::Udp)),
            ("web.net1", 1, None, 512)
        );
        assert_eq!((query.head, query.question), ([0x12, 0x34, 1, 0], &PLAIN[12..]));
        let message = with(|m| {
            m[11] = 1;
            m.extend(OPT_4096);
        });
        let Incoming::Query(query) = read(&message) else { panic!() };
        assert_eq!(query.edns, Some(Edns { size: 4096, dnssec_ok: true }));
        assert_eq!((query.limit(Transport::Udp), query.limit(Transport::Tcp)), (1232, 65_535));
        let message = with(|m| {
            m[11] = 1;
            m.extend(b"\0\0\x29\0\x10\0\0\0\0\0\x0c\0\x0a\0\x02xy\xff\xfe\0\x02zz");
        });
        let Incoming::Query(query) = read(&message) else { panic!("unknown options are ignored") };
        assert_eq!(query.limit(Transport::Udp), 512, "RFC 6891, 6.2.3: lower values are 512");
    }

    #[test]
    fn the_rest_is_odd_or_nothing() {
        for length in 0..PLAIN.len() {
            assert!(!matches!(read(&PLAIN[..length]), Incoming::Query(_)), "{length}");
        }
        assert!(matches!(read(&with(|m| m[2] |= 0x80)), Incoming::Nothing), "a reply");
        odd(|m| m[2] |= 0x10);
        odd(|m| m[5] = 2);
        odd(|m| m[5] = 0);
        odd(|m| m[7] = 1);
        odd(|m| m[11] = 1);
        odd(|m| m.push(0));
        odd(|m| m[12] = 0xc0);
        odd(|m| m[12] = 64);
        odd(|m| m[14] = b'.');
        odd(|m| m[13] = b'-');
        odd(|m| m[13] = 0xc3);
        let end = PLAIN.len() - 1;
        odd(|m| m[end] = 3);
        for opt in [
            &b"\0\0\x29\x10\0\0\x01\0\0\0\0"[..],
            b"\0\0\x28\x10\0\0\0\0\0\0\0",
            b"\x01a\0\0\x29\x10\0\0\0\0\0\0\0",
            b"\0\0\x29\x10\0\0\0\0\0\0\x01x",
            b"\0\0\x29\x10\0\0\0\0\0\0\x04\0\x0a\0\x01",
            b"\0\0\x29\x10\0\0\0\0\0\0\x04\0\x08\0\0",
            b"\0\0\x29\x10\0\0\0\0\0\0\0\0\0\x29\x10\0\0\0\0\0\0\0",
        ] {
            odd(|m| {
                m[11] = 1;
                m.extend(opt);
            });
        }
    }

    #[test]
    fn the_longest_name_is_read_and_no_longer_one() {
        let name = |last: usize| {
            let mut message = PLAIN[..12].to_vec();
            for length in [63, 63, 63, last] {
                message.push(u8::try_from(length).unwrap());
                message.extend(vec![b'a'; length]);
            }
            message.extend(b"\0\0\x01\0\x01");
            message
        };
        assert!(matches!(read(&name(61)), Incoming::Query(_)), "255 bytes");
        assert!(matches!(read(&name(62)), Incoming::Odd), "256 bytes");
    }

    #[test]
    fn type_and_code_of_any_message_are_found_or_none() {
        assert_eq!((kind(PLAIN), kind(&PLAIN[..12]), kind(&PLAIN[..23]), kind(b"")), (1, 0, 0, 0));
        assert_eq!(kind(&with(|m| m[23] = 28)), 28);
        assert_eq!(kind(&with(|m| m[12] = 200)), u16::from_be_bytes(*b"we"), "nonsense is no panic");
        let refused = with(|m| m[3] = 0x85);
        assert_eq!((code(&refused), code(b"")), (5, 0));
        let badvers = with(|m| {
            m[11] = 1;
            m.extend(b"\0\0\x29\x04\xd0\x01\0\0\0\0\0");
        });
        assert_eq!(code(&badvers), 16);
    }
}
