//! The fuzz targets `nft` and `conntrack`: any bytes as a datagram of the kernel's netfilter subsystems.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_REQUEST;
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessageType};

use super::monitor::{Listener, Own, Touched, generation};
use super::wire::{Change, decode, push};
use super::{conntrack, containers, fingerprint, resend};
use crate::kernel::netlink::netfilter::{Batch, Reply, attributes};
use crate::kernel::netlink::socket::Parts;
use crate::logic::firewall::sets::{Entry, Set, elements, entries};
use crate::model::address::Family;
use crate::model::host::step::{Flows, HostPorts};
use crate::model::publication::{PortRange, Protocol};

/// `CTA_TUPLE_ORIG`.
const TUPLE_ORIG: u16 = 1;

fn replies(datagram: &[u8]) -> Vec<Reply> {
    Parts(datagram).map_while(Result::ok).filter_map(|message| Reply::parse(&message)).collect()
}

/// One run of the fuzzer with a dump of the firewall table, or a notification of it. Panics if a promise is broken.
pub fn attack(datagram: &[u8]) {
    let replies = replies(datagram);
    replies.iter().filter_map(resend::packet).for_each(sent_again);
    let mut all: Vec<Entry> = Vec::new();
    for set in Set::all() {
        let (entries, _) = decode(set, &replies);
        entries.iter().for_each(again);
        all.extend(entries);
    }
    let count = all.len();
    let (elements, alone) = elements(all);
    assert!(elements.len() + alone <= count, "no entry counts twice");
    let whole: Vec<Entry> = elements.iter().flat_map(entries).collect();
    assert_eq!(crate::logic::firewall::sets::elements(whole), (elements, 0));
    shape(&replies);
    heard(datagram, &replies);
}

/// What is sent again is a whole packet to where it goes, and it is the same when it is prepared once more.
fn sent_again(packet: resend::Packet) {
    let resend::Packet { bytes, to, .. } = packet;
    let mut twice = bytes.clone();
    assert_eq!((super::again::again(&mut twice), twice), (Some(to), bytes));
}

/// What was read is written such that it is read as the same: netd deletes what it has read.
fn again(entry: &Entry) {
    let mut batch = Batch::default();
    push(&mut batch, Change::Add, entry.set, &[entry]);
    let (entries, undecodable) = decode(entry.set, &replies(batch.bytes()));
    assert_eq!((entries.as_slice(), undecodable), (std::slice::from_ref(entry), 0));
}

/// The shape of a part of the table follows from the messages, and from their number.
fn shape(replies: &[Reply]) {
    let shape = |replies: &[Reply]| {
        let mut shape = Vec::new();
        fingerprint::add(&mut shape, replies, &[1, 2, 3, 4, 5, 6, 7]);
        shape
    };
    let whole = shape(replies);
    assert_eq!(whole, shape(replies));
    if let Some((_, rest)) = replies.split_first() {
        assert_ne!(whole, shape(rest));
    }
}

/// The monitors report changes that a generation completes, and none that netd's own socket made.
fn heard(datagram: &[u8], replies: &[Reply]) {
    let listener = |port| Listener { own: std::sync::Arc::new(Own::default()), port, touched: Touched::default() };
    let heard = listener(u32::MAX).hear(datagram);
    let completed = replies.iter().any(|reply| generation(reply).is_some() || reply.kind == 15);
    assert!(completed || !(heard.ours || heard.others));
    if let Some(port) = replies.first().map(|reply| reply.port)
        && replies.iter().all(|reply| reply.port == port)
    {
        let own = listener(port).hear(datagram);
        assert!(!own.ours && !own.others);
    }
    let _ = containers::is_about_table(datagram);
}

/// One run of the fuzzer with a dump of connection tracking. Panics if a promise is broken.
pub fn conntrack(datagram: &[u8]) {
    let container: IpAddr = [10, 77, 0, 2].into();
    let to = |address: IpAddr| {
        Flows::To(HostPorts { address, protocol: Protocol::Udp, ports: PortRange::single(53).unwrap() })
    };
    let flows = [
        Flows::Of(container),
        Flows::Of("fd00::2".parse().unwrap()),
        to([192, 0, 2, 1].into()),
        to("2001:db8::1".parse().unwrap()),
    ];
    for reply in replies(datagram) {
        assert_eq!(conntrack::name_of(&reply, &[]), None);
        for flow in &flows {
            if let Some(name) = conntrack::name_of(&reply, &[flow]) {
                deletion(&name, &reply);
                belongs(flow, &reply);
            }
        }
    }
}

/// A deletion without a tuple would delete the whole table.
fn deletion(name: &[ConntrackAttribute], reply: &Reply) {
    let mut batch = Batch::default();
    for family in [Family::V4, Family::V6] {
        batch.push(conntrack::message(Some(family), ConntrackMessageType::Delete, name), NLM_F_REQUEST, None);
    }
    let requests = replies(batch.bytes());
    assert_eq!(requests.len(), 2);
    for request in requests {
        let tuple = attributes(&request.attributes).find(|(kind, _)| *kind == TUPLE_ORIG);
        assert!(tuple.is_some_and(|(_, tuple)| !tuple.is_empty()), "{reply:?} is deleted as {name:?}");
    }
}

/// The entry has the address of the flow.
fn belongs(flow: &Flows, reply: &Reply) {
    let address = match flow {
        Flows::Of(address) => *address,
        Flows::Denied(_) => return,
        Flows::To(ports) => ports.address,
        Flows::Through(through) => match through.address.or(through.member) {
            Some(address) => address,
            None => return,
        },
    };
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let found: BTreeSet<bool> = reply.attributes.windows(octets.len()).map(|bytes| bytes == octets).collect();
    assert!(found.contains(&true), "{reply:?} does not belong to {flow:?}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn dumps_of_the_firewall_table_keep_their_promises() {
        netd_testing::inputs::attack("nft", super::attack);
    }

    #[test]
    fn dumps_of_connection_tracking_keep_their_promises() {
        netd_testing::inputs::attack("conntrack", super::conntrack);
    }
}
