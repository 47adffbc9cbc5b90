//! Conversations, with a server made of its frames.

use super::*;
use crate::logic::dhcp::frame::unwrap;

const XID: u32 = 7;
const NOW: (u64, u64) = (100, 1000);

fn client() -> Client {
    let mac = "02:6f:00:00:00:01".parse().unwrap();
    Client { mac, id: mac, name: "web".into() }
}

/// What a frame of the client says: kind, and the address in its options.
fn said(frame: &[u8]) -> (u8, Option<[u8; 4]>) {
    let message = dhcproto::v4::borrowed::Message::new(&frame[42..]).unwrap();
    let option = |code: u8| message.opts().find(|option| u8::from(option.code()) == code).map(|it| it.data().to_vec());
    (option(53).unwrap()[0], option(50).map(|address| address.try_into().unwrap()))
}

/// A server's answer: DHCP's kind, the address, and further options.
fn from_server(kind: u8, address: [u8; 4], more: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = client().encode(Say::Discover(None), XID, 0)[..240].to_vec();
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&address);
    let kind = [kind];
    let fixed: [(u8, &[u8]); 4] = [(53, &kind), (54, &[192, 0, 2, 1]), (1, &[255, 255, 255, 0]), (51, &[0, 0, 0, 100])];
    for (code, data) in more.iter().chain(&fixed) {
        bytes.extend([*code, data.len() as u8]);
        bytes.extend(*data);
    }
    bytes.push(255);
    let ends = Ends {
        mac: "02:00:00:00:00:99".parse().unwrap(),
        from: [192, 0, 2, 1].into(),
        to_mac: EVERYBODY,
        to: Ipv4Addr::BROADCAST,
    };
    let mut frame = frame::wrap(ends, &bytes);
    frame[34..38].copy_from_slice(&[0, 67, 0, 68]);
    assert!(unwrap(&frame).is_some());
    frame
}

fn leased(address: [u8; 4]) -> Lease {
    let mut conversation = Conversation::new(client(), Ask::Any(None), XID);
    assert_eq!(conversation.hear(&from_server(2, address, &[]), NOW), Outcome::Next);
    match conversation.hear(&from_server(5, address, &[]), NOW) {
        Outcome::Granted(lease) => *lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_offer_is_taken_and_the_grant_is_the_lease() {
    let mut conversation = Conversation::new(client(), Ask::Any(Some([192, 0, 2, 9].into())), XID);
    assert_eq!(said(&conversation.frame(0)), (1, Some([192, 0, 2, 9])));
    assert_eq!(conversation.hear(b"garbage", NOW), Outcome::Waiting);
    assert_eq!(conversation.hear(&from_server(5, [192, 0, 2, 7], &[]), NOW), Outcome::Waiting, "nothing was asked for");
    assert_eq!(conversation.hear(&from_server(2, [192, 0, 2, 7], &[]), NOW), Outcome::Next);
    assert_eq!(said(&conversation.frame(0)), (3, Some([192, 0, 2, 7])));
    assert_eq!(conversation.hear(&from_server(2, [192, 0, 2, 8], &[]), NOW), Outcome::Waiting, "another offer");
    let lease = leased([192, 0, 2, 7]);
    assert_eq!(conversation.hear(&from_server(5, [192, 0, 2, 7], &[]), NOW), Outcome::Granted(Box::new(lease.clone())));
    assert_eq!(lease.server_mac, "02:00:00:00:00:99".parse().unwrap());
}

#[test]
fn a_refused_offer_is_not_asked_for_again() {
    let mut conversation = Conversation::new(client(), Ask::Any(Some([192, 0, 2, 7].into())), XID);
    conversation.hear(&from_server(2, [192, 0, 2, 7], &[]), NOW);
    assert_eq!(conversation.hear(&from_server(6, [0; 4], &[(56, b"in use")]), NOW), Outcome::Again);
    conversation.begin_again(XID + 1);
    assert_eq!(said(&conversation.frame(0)), (1, None));
    let why = conversation.failure();
    assert!(why.contains("a refusal of 192.0.2.7 from 192.0.2.1 (in use)"), "{why}");
}

/// A server's answer as `from_server`, but of another server.
fn from_another(kind: u8, address: [u8; 4]) -> Vec<u8> {
    let mut frame = from_server(kind, address, &[]);
    let at = frame.windows(6).position(|part| part == [54, 4, 192, 0, 2, 1]).unwrap();
    frame[at + 5] = 200;
    frame
}

#[test]
fn only_the_server_that_was_asked_decides() {
    let address = [192, 0, 2, 7];
    let mut conversation = Conversation::new(client(), Ask::Any(None), XID);
    conversation.hear(&from_server(2, address, &[]), NOW);
    for kind in [5, 6] {
        assert_eq!(conversation.hear(&from_another(kind, address), NOW), Outcome::Waiting, "taking, {kind}");
    }
    assert_eq!(conversation.hear(&from_server(5, [192, 0, 2, 8], &[]), NOW), Outcome::Waiting, "another address");
    assert!(conversation.failure().contains("a grant of 192.0.2.8 instead of 192.0.2.7"));
    assert!(matches!(conversation.hear(&from_server(5, address, &[]), NOW), Outcome::Granted(_)));
    let mut conversation = Conversation::new(client(), Ask::Renew(leased(address)), XID);
    for kind in [5, 6] {
        assert_eq!(conversation.hear(&from_another(kind, address), NOW), Outcome::Waiting, "renewing, {kind}");
    }
    assert!(matches!(conversation.hear(&from_server(6, [0; 4], &[]), NOW), Outcome::Refused(_)));
    let mut conversation = Conversation::new(client(), Ask::Rebind(leased(address)), XID);
    assert!(matches!(conversation.hear(&from_another(5, address), NOW), Outcome::Granted(_)), "any may prolong it");
}

#[test]
fn late_answers_to_former_questions_are_none_to_new_ones() {
    let mut conversation = Conversation::new(client(), Ask::Any(None), XID);
    conversation.hear(&from_server(2, [192, 0, 2, 7], &[]), NOW);
    conversation.begin_again(XID + 1);
    assert_eq!(conversation.hear(&from_server(2, [192, 0, 2, 7], &[]), NOW), Outcome::Waiting);
    assert_eq!(conversation.frame(0)[46..50], (XID + 1).to_be_bytes());
}

#[test]
fn a_lease_is_kept_with_its_server_and_then_with_any() {
    let lease = leased([192, 0, 2, 7]);
    let mut conversation = Conversation::new(client(), Ask::Renew(lease.clone()), XID);
    let frame = conversation.frame(0);
    assert_eq!((&frame[..6], said(&frame)), (&lease.server_mac.bytes()[..], (3, None)));
    let later = (150, 1050);
    let Outcome::Granted(longer) = conversation.hear(&from_server(5, [192, 0, 2, 7], &[]), later) else { panic!() };
    assert_eq!((longer.ends(), longer.is_same_interface(&lease)), (Some(250), true));
    let mut conversation = Conversation::new(client(), Ask::Rebind(lease), XID);
    assert_eq!(conversation.frame(0)[..6], EVERYBODY);
    let refused = conversation.hear(&from_server(6, [0; 4], &[]), later);
    assert!(matches!(&refused, Outcome::Refused(why) if why.contains("refused")), "{refused:?}");
}

#[test]
fn what_was_heard_is_told() {
    let failed = |frames: &[Vec<u8>]| {
        let mut conversation = Conversation::new(client(), Ask::Any(None), XID);
        frames.iter().for_each(|frame| drop(conversation.hear(frame, NOW)));
        conversation.failure()
    };
    assert_eq!(failed(&[]), "no DHCP server answered");
    let useless = failed(&[from_server(2, [0; 4], &[])]);
    assert!(useless.contains("heard no usable address from 02:00:00:00:00:99"), "{useless}");
    let silent = failed(&[from_server(2, [192, 0, 2, 7], &[])]);
    assert!(silent.contains("an offer of 192.0.2.7/24 from 192.0.2.1, which did not grant it"), "{silent}");
    let many: Vec<_> = (1..100).map(|n| from_server(2, [127, 0, 0, n], &[])).collect();
    assert!(failed(&many).len() < 300);
}
