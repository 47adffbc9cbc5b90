//! The fuzz target `netlink`: any bytes as a datagram of rtnetlink, in reply to a request and as a notification.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use std::collections::BTreeSet;

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};
use netlink_packet_route::RouteNetlinkMessage;

use super::KernelEvent;
use super::link::changes::Changes;
use super::link::{LINK_GROUP, Link, address, container_route, route};
use super::netlink::client::Replies;
use super::netlink::socket::{Parts, parsed};
use super::tc::wire::{Qdisc, Redirect};
use crate::model::host::observed::ObservedKind;

/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;
/// The links of netd that the monitor knows, and the number of the namespace of their other ends.
const LINKS: [u32; 3] = [2, 3, 7];
const NETNS: i32 = 1;

/// A message, read independently of the product.
#[derive(Debug, PartialEq, Eq)]
struct Message<'a> {
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// One run of the fuzzer. Panics if a promise is broken.
pub fn attack(datagram: &[u8]) {
    let (messages, broken) = walk(datagram);
    parts(datagram, &messages, broken);
    replies(datagram, &messages, broken);
    messages.iter().for_each(object);
    notifications(datagram, &messages);
}

/// The messages up to the first whose length is wrong, and whether there is such a one.
fn walk(mut rest: &[u8]) -> (Vec<Message<'_>>, bool) {
    let mut messages = Vec::new();
    while rest.len() >= HEADER {
        let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().unwrap());
        let length = word(0) as usize;
        if length < HEADER || length > rest.len() {
            return (messages, true);
        }
        let kind = u16::from_ne_bytes(rest[4..6].try_into().unwrap());
        messages.push(Message { kind, sequence: word(8), payload: &rest[HEADER..length] });
        rest = rest.get(length.div_ceil(4) * 4..).unwrap_or_default();
    }
    (messages, false)
}

/// Nothing is read twice or beyond the end, and what is wrong is an error.
fn parts(datagram: &[u8], messages: &[Message<'_>], broken: bool) {
    let mut parts = Parts(datagram);
    for expected in messages {
        let part = parts.next().expect("a message").expect("a whole one");
        let found = Message { kind: part.message_type(), sequence: part.sequence_number(), payload: payload(&part) };
        assert_eq!(found, *expected);
    }
    assert_eq!(parts.next().map(|part| part.is_err()), broken.then_some(true));
    assert!(parts.next().is_none());
}

fn payload<'a>(part: &NetlinkBuffer<&'a [u8]>) -> &'a [u8] {
    &part.clone().into_inner()[HEADER..]
}

/// The replies to the request of the first message are all of them, or an error: never a part that looks whole.
fn replies(datagram: &[u8], messages: &[Message<'_>], broken: bool) {
    let sequence = messages.first().map_or(0, |message| message.sequence);
    let mut replies = Replies::default();
    let read = |part: &NetlinkBuffer<&[u8]>| Some((part.message_type(), part.payload().to_vec()));
    let outcome = replies.add(Parts(datagram), sequence, read);
    let mut own = messages.iter().filter(|message| message.sequence == sequence);
    let is_end = |message: &&Message<'_>| matches!(message.kind, NLMSG_DONE | NLMSG_ERROR);
    let expected: Vec<_> = own.clone().take_while(|message| !is_end(message)).collect();
    match own.find(is_end) {
        None => assert_eq!(outcome.is_err(), broken, "{outcome:?}"),
        Some(end) => match end.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code)) {
            0 => assert_eq!(outcome, Ok(true)),
            // It is asked again.
            code if code == -libc::EINTR => assert_eq!(outcome, Ok(true)),
            code => {
                let errno = outcome.as_ref().expect_err("the kernel's refusal").errno;
                assert_eq!(errno, code.checked_neg().unwrap_or(libc::EIO));
            }
        },
    }
    if outcome.is_ok() {
        let found = replies.list.iter().map(|(kind, payload)| (*kind, payload.as_slice()));
        assert!(found.eq(expected.iter().map(|message| (message.kind, message.payload))));
    }
}

/// What netd makes of the objects in messages.
fn object(message: &Message<'_>) {
    let Some(object) = parsed(message.kind, message.payload) else { return };
    match object {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            let read = Link::read(&link);
            assert_eq!((read.index, &read), (link.header.index, &Link::read(&link)));
            assert!(read.mac.is_none_or(|mac| mac.to_string().parse() == Ok(mac)));
        }
        RouteNetlinkMessage::NewAddress(found) => {
            if let Some(read) = address::read(&found) {
                assert_eq!((read.index, read.address.prefix()), (found.header.index, found.header.prefix_len));
            }
        }
        RouteNetlinkMessage::NewRoute(found) => {
            let all = [found];
            let listed = route::of(&all);
            assert!(listed.iter().all(|read| read.destination.prefix() == all[0].header.destination_prefix_length));
            assert!(route::connected_of(&all).len() <= listed.len());
            for index in LINKS {
                assert!(container_route::of(&all, index).len() <= 1);
            }
        }
        RouteNetlinkMessage::NewQueueDiscipline(found) | RouteNetlinkMessage::NewTrafficFilter(found) => {
            let (qdisc, redirect) = (Qdisc::read(&found), Redirect::read(&found));
            if let Some(bucket) = qdisc.bucket {
                assert!(bucket.is(bucket) && (bucket.rate > 0 || bucket.burst() == 0), "{qdisc:?}");
            }
            let _ = redirect.map(|redirect| redirect.delete(LINKS[0]));
        }
        _ => {}
    }
}

/// Links of netd, each the end of a pair.
fn known() -> Vec<Link> {
    let link = |index: u32| Link {
        index,
        name: format!("ndv-web{index}"),
        kind: ObservedKind::Veth,
        group: LINK_GROUP,
        alias: None,
        master: Some(9),
        up: true,
        mtu: 1500,
        isolated: false,
        filters_vlans: None,
        ipv6: false,
        mac: None,
        peer: Some(2),
        peer_netns: Some(NETNS),
    };
    LINKS.into_iter().map(link).collect()
}

/// The monitor reports links that the messages name, at most one for each message, and containers that it knows.
fn notifications(datagram: &[u8], messages: &[Message<'_>]) {
    let mut changes = Changes::of_settled(&known(), 1, Default::default());
    let gone = changes.hear_host(datagram);
    assert!(gone.len() <= messages.len());
    assert!(gone.iter().all(|event| matches!(event, KernelEvent::LinkGone(_))), "{gone:?}");
    changes.hear_container(datagram, NETNS);
    changes.hear_container(datagram, NETNS + 1);
    for _ in 0..2 {
        let events = changes.settle();
        let kinds: BTreeSet<_> = events.iter().map(std::mem::discriminant).map(|kind| format!("{kind:?}")).collect();
        assert_eq!(kinds.len(), events.len(), "each kind once: {events:?}");
        changes.lost();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn datagrams_of_rtnetlink_keep_their_promises() {
        netd_testing::inputs::attack("netlink", super::attack);
    }
}
