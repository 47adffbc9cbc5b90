//! mDNS: questions and answers between a container and the LAN.

use std::net::SocketAddr;

use libtest_mimic::Trial;

use super::peer::{MDNS4, MDNS6, Peer, name, question, response, until_relayed};
use super::{begin, begin_closed};
use crate::lab::{HOST4, Lab, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("relay: mDNS between a container and the LAN, IPv4", |lab| both_ways(lab, MDNS4)),
        trial("relay: mDNS between a container and the LAN, IPv6", |lab| both_ways(lab, MDNS6)),
        trial("relay: who asks from a port of its own gets the answer there, IPv4", |lab| legacy(lab, MDNS4)),
        trial("relay: who asks from a port of its own gets the answer there, IPv6", |lab| legacy(lab, MDNS6)),
    ]
}

fn both_ways(lab: &Lab, group: SocketAddr) {
    begin(lab, "-o relay=mdns --ipv6");
    let (web, device) = (Peer::new("web", "eth0", group), Peer::new("outside", "uplink", group));
    until_relayed(&web, &device);
    for (from, to) in [(&web, &device), (&device, &web)] {
        let asked = question(&name("printer"), 1);
        from.spread(&asked);
        let got = to.expect(&asked);
        assert_eq!((got.hops, got.from.port()), (255, 5353));
        let answer = response(&name("printer"));
        to.spread(&answer);
        let got = from.expect(&answer);
        assert_eq!((got.hops, got.from.port()), (255, 5353));
        // An answer by unicast would go to the host.
        let who = name("speaker");
        from.spread(&question(&who, 0x8001));
        to.expect(&question(&who, 1));
    }
    if group.is_ipv4() {
        let asked = question(&name("from"), 1);
        web.spread(&asked);
        assert_eq!(device.expect(&asked).from.ip().to_string(), HOST4);
    }
}

/// One-shot questions (RFC 6762, 5.1): they are asked from a port of the relay.
fn legacy(lab: &Lab, group: SocketAddr) {
    begin_closed(lab, "-o relay=mdns --ipv6");
    let (web, device) = (Peer::new("web", "eth0", group), Peer::new("outside", "uplink", group));
    until_relayed(&web, &device);
    for (near, ifname, to) in [("web", "eth0", &device), ("outside", "uplink", &web)] {
        let asker = Peer::asker(near, ifname, group);
        let who = name("printer");
        asker.spread(&question(&who, 1));
        let got = to.expect(&question(&who, 1));
        assert!((61100..=61227).contains(&got.from.port()), "{got:?}");
        to.send(&response(&who), got.from);
        let answer = asker.expect(&response(&who));
        assert_eq!((answer.from.port(), answer.hops), (5353, 255), "as a responder would answer");
    }
}
