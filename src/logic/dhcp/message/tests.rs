//! What is sent is what RFC 2131 asks for, and nothing that is received is trusted.

use super::*;

const XID: u32 = 0x0102_0304;

fn client() -> Client {
    let mac = "02:6f:00:00:00:01".parse().unwrap();
    Client { mac, id: mac, name: "web.default".into() }
}

/// The options of a message, by their numbers.
fn options(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let message = borrowed::Message::new(bytes).unwrap();
    message.opts().map(|option| (option.code().into(), option.data().to_vec())).collect()
}

/// A server's answer with these options, in their order.
pub(in crate::logic::dhcp) fn answer(address: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = client().encode(Say::Discover(None), XID, 0)[..240].to_vec();
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&address);
    for (code, data) in options {
        bytes.extend([*code, u8::try_from(data.len()).unwrap()]);
        bytes.extend(*data);
    }
    bytes.push(255);
    bytes
}

const TERMS: [(u8, &[u8]); 6] = [
    (53, &[5]),
    (1, &[255, 255, 255, 0]),
    (3, &[192, 0, 2, 1, 192, 0, 2, 2]),
    (51, &[0, 0, 14, 16]),
    (54, &[192, 0, 2, 3]),
    (12, b"web"),
];

fn granted(bytes: &[u8]) -> Terms {
    match client().decode(bytes, XID) {
        Some(Answer::Address(Kind::Grant, terms)) => terms,
        other => panic!("{other:?}"),
    }
}

fn lease(bytes: &[u8]) -> Result<Lease, &'static str> {
    granted(bytes).lease((client().mac, None), (100, 5000))
}

#[test]
fn each_message_has_what_its_kind_needs() {
    let (wanted, server): (Ipv4Addr, Ipv4Addr) = ([192, 0, 2, 7].into(), [192, 0, 2, 3].into());
    for (say, kind, has, lacks, own) in [
        (Say::Discover(None), 1, &[12, 55, 61][..], &[50, 54][..], Ipv4Addr::UNSPECIFIED),
        (Say::Discover(Some(wanted)), 1, &[12, 50, 55, 61], &[54], Ipv4Addr::UNSPECIFIED),
        (Say::Take(wanted, server), 3, &[12, 50, 54, 55, 61], &[], Ipv4Addr::UNSPECIFIED),
        (Say::Keep(wanted), 3, &[12, 55, 61], &[50, 54], wanted),
        (Say::Release(wanted, server), 7, &[54, 61], &[12, 50, 55], wanted),
        (Say::Decline(wanted, server), 4, &[50, 54, 61], &[12, 55], Ipv4Addr::UNSPECIFIED),
    ] {
        let bytes = client().encode(say, XID, 7);
        assert!(bytes.len() >= SHORTEST, "{say:?}");
        let message = borrowed::Message::new(&bytes).unwrap();
        assert_eq!((message.xid(), message.secs(), message.ciaddr()), (XID, 7, own), "{say:?}");
        assert_eq!(message.chaddr(), client().mac.bytes());
        let options = options(&bytes);
        let value = |code| options.iter().find(|(has, _)| *has == code).map(|(_, data)| &data[..]);
        assert_eq!(value(53), Some(&[kind][..]), "{say:?}");
        assert_eq!(value(61), Some(&[1, 0x02, 0x6f, 0, 0, 0, 1][..]));
        assert!(has.iter().all(|code| value(*code).is_some()), "{say:?}: {options:?}");
        assert!(lacks.iter().all(|code| value(*code).is_none()), "{say:?}: {options:?}");
        if has.contains(&12) {
            assert_eq!(value(12), Some(&b"web"[..]), "the first label");
        }
    }
}

#[test]
fn a_lease_has_the_terms_of_the_answer() {
    let lease = lease(&answer([192, 0, 2, 7], &TERMS)).unwrap();
    assert_eq!(lease.address, "192.0.2.7/24".parse().unwrap());
    assert_eq!((lease.router, lease.server), (Some([192, 0, 2, 1].into()), [192, 0, 2, 3].into()));
    assert_eq!((lease.seconds, lease.renew, lease.rebind), (3600, 1800, 3150));
    assert_eq!((lease.ends(), lease.ends_at()), (Some(3700), Some(8600)));
    let times: Vec<(u8, &[u8])> = [(58, &[0, 0, 0, 9][..]), (59, &[0, 0, 0, 8])].into_iter().chain(TERMS).collect();
    let odd = granted(&answer([192, 0, 2, 7], &times)).lease((client().mac, None), (0, 0)).unwrap();
    assert_eq!((odd.renew, odd.rebind), (1800, 3150), "T1 after T2 is no use");
    let elsewhere: Vec<(u8, &[u8])> =
        TERMS.into_iter().map(|(code, data)| if code == 3 { (3, &[10, 0, 0, 1][..]) } else { (code, data) }).collect();
    let lease = granted(&answer([192, 0, 2, 7], &elsewhere)).lease((client().mac, None), (0, 0)).unwrap();
    assert_eq!(lease.router, None, "nothing leads to a router outside the subnet");
}

#[test]
fn what_is_no_answer_to_the_question_is_not_heard() {
    let good = answer([192, 0, 2, 7], &TERMS);
    assert!(client().decode(&good, XID).is_some());
    assert_eq!(client().decode(&good, XID + 1), None);
    for (at, value) in [(0, 1), (1, 6), (2, 255), (2, 16), (2, 0), (28, 9), (33, 9)] {
        let mut other = good.clone();
        other[at] = value;
        assert_eq!(client().decode(&other, XID), None, "byte {at}");
    }
}

#[test]
fn the_identifier_stays_when_the_mac_address_of_the_interface_is_changed() {
    let network = crate::logic::samples::network("lan", &["192.0.2.0/24"]);
    let mut endpoint = crate::logic::samples::endpoint(&network, "web", 1, &["192.0.2.7"], &[]);
    let first = endpoint.mac;
    endpoint.learned_mac = Some("02:aa:bb:cc:dd:ee".parse().unwrap());
    let client = Client::from(&endpoint);
    for say in [
        Say::Discover(None),
        Say::Keep([192, 0, 2, 7].into()),
        Say::Release([192, 0, 2, 7].into(), [192, 0, 2, 3].into()),
    ] {
        let bytes = client.encode(say, XID, 0);
        assert_eq!(bytes[28..34], endpoint.learned_mac.unwrap().bytes(), "{say:?}");
        let id = options(&bytes).into_iter().find(|(code, _)| *code == 61).unwrap().1;
        assert_eq!(id, [&[1][..], &first.bytes()].concat(), "{say:?}");
    }
}

#[test]
fn a_server_is_asked_for_more_time_in_time_and_not_all_the_time() {
    for (seconds, renew, rebind, wanted) in [
        (3600, None, None, (1800, 3150)),
        (3600, Some(900), Some(3000), (900, 3000)),
        (3600, Some(0), Some(3000), (60, 3000)),
        (3600, Some(1), Some(2), (60, 61)),
        (3600, Some(3000), Some(3000), (1800, 3150)),
        (3600, Some(1800), Some(3600), (1800, 3150)),
        (3600, Some(3300), None, (1800, 3150)),
        (5, Some(0), Some(1), (2, 3)),
        (5, None, None, (2, 4)),
    ] {
        let terms = Terms { seconds: Some(seconds), renew, rebind, ..granted(&answer([192, 0, 2, 7], &TERMS)) };
        let lease = terms.lease((client().mac, None), (100, 5000)).unwrap();
        assert_eq!((lease.renew, lease.rebind), wanted, "{seconds} {renew:?} {rebind:?}");
    }
}

#[test]
fn useless_answers_are_named() {
    for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
        assert_eq!(client().decode(&answer(address, &TERMS), XID), Some(Answer::Useless("no usable address")));
    }
    for (leave_out, lacks) in [(1, "no subnet mask"), (51, "no lease time"), (54, "no server identifier")] {
        let rest: Vec<_> = TERMS.into_iter().filter(|(code, _)| *code != leave_out).collect();
        assert_eq!(lease(&answer([192, 0, 2, 7], &rest)), Err(lacks));
    }
    for (code, data, lacks) in [
        (1, &[255, 0, 255, 0][..], "no subnet mask"),
        (1, &[0, 0, 0, 0], "no subnet mask"),
        (1, &[255], "no subnet mask"),
        (51, &[0, 0, 0, 0], "no lease time"),
        (51, &[0, 0, 0, 4], "a lease time of less than 5 s"),
        (54, &[0, 0, 0, 0], "no server identifier"),
    ] {
        let other: Vec<_> = TERMS.into_iter().map(|one| if one.0 == code { (code, data) } else { one }).collect();
        assert_eq!(lease(&answer([192, 0, 2, 7], &other)), Err(lacks), "{code}: {data:?}");
    }
    assert_eq!(lease(&answer([192, 0, 2, 255], &TERMS)), Err("the address of a whole subnet"));
    let refused = answer([0; 4], &[(53, &[6]), (56, b"not\x1b here")]);
    assert_eq!(client().decode(&refused, XID), Some(Answer::Refusal(None, "not here".into())));
    assert_eq!(client().decode(&answer([0; 4], &[]), XID), Some(Answer::Useless("an answer of no known kind")));
}

#[test]
fn an_answer_that_is_cut_off_or_damaged_anywhere_harms_nobody() {
    let good = answer([192, 0, 2, 7], &TERMS);
    for end in 0..good.len() {
        let _ = client().decode(&good[..end], XID);
        for value in [0, 1, 2, 127, 254, 255] {
            let mut other = good.clone();
            other[end] = value;
            if let Some(Answer::Address(_, terms)) = client().decode(&other, XID) {
                let _ = terms.lease((client().mac, None), (u64::from(u32::MAX), 0));
            }
        }
    }
}
