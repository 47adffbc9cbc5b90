//! SSDP: searches with their answers, and announcements.

use std::net::SocketAddr;
use std::time::Duration;

use libtest_mimic::Trial;

use super::peer::{Peer, SSDP4, SSDP6, found, name, notify, search, until_relayed};
use super::{begin, begin_closed};
use crate::lab::{Lab, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("relay: SSDP between a container and the LAN, IPv4", |lab| both_ways(lab, SSDP4)),
        trial("relay: SSDP between a container and the LAN, IPv6", |lab| both_ways(lab, SSDP6)),
        trial("relay: open searches of a container are bounded, and end", bounded),
        trial("relay: an answer to a search comes from the link, to its own port only", answers),
    ]
}

fn both_ways(lab: &Lab, group: SocketAddr) {
    // The host is closed to its containers, which discover the LAN all the same, and are discovered.
    begin_closed(lab, "-o relay=ssdp --ipv6");
    let (web, device) = (Peer::new("web", "eth0", group), Peer::new("outside", "uplink", group));
    until_relayed(&web, &device);
    for (near, from, to) in [("web", &web, &device), ("outside", &device, &web)] {
        let announced = notify(&name("tv"));
        from.spread(&announced);
        assert_eq!(to.expect(&announced).hops, 2);
        let ifname = if near == "web" { "eth0" } else { "uplink" };
        let asker = Peer::asker(near, ifname, group);
        let (what, wanted) = (name("urn"), search(&name("urn"), 1));
        asker.spread(&wanted);
        let got = to.expect(&wanted);
        assert_eq!(got.hops, 2);
        assert!((61100..=61227).contains(&got.from.port()), "{got:?}");
        for answer in [found(&what), found(&name("another"))] {
            to.send(&answer, got.from);
            asker.expect(&answer);
        }
        // The same search again, from the same socket: no other is opened.
        let again = search(&what, 1);
        asker.spread(&again);
        assert_eq!(to.expect(&again).from.port(), got.from.port());
    }
}

fn bounded(lab: &Lab) {
    begin(lab, "-o relay=ssdp");
    let (web, device) = (Peer::new("web", "eth0", SSDP4), Peer::new("outside", "uplink", SSDP4));
    until_relayed(&web, &device);
    let askers: Vec<Peer> = (0..12).map(|_| Peer::asker("web", "eth0", SSDP4)).collect();
    let searches: Vec<Vec<u8>> = askers.iter().map(|_| search(&name("urn"), 1)).collect();
    for (asker, wanted) in askers.iter().zip(&searches) {
        asker.spread(wanted);
    }
    let end = notify(&name("end"));
    web.spread(&end);
    let passed = device.all_until(&end);
    assert_eq!(passed, searches[..8], "eight of a container");
    // Those end; then others may search.
    let later = search(&name("later"), 1);
    let until = crate::lab::until_within(Duration::from_secs(10), "a place is free", || {
        askers[9].spread(&later);
        device.within(Duration::from_millis(250)).into_iter().find(|got| *got == later)
    });
    assert_eq!(until, later);
}

fn answers(lab: &Lab) {
    begin(lab, "-o relay=ssdp");
    let (web, device) = (Peer::new("web", "eth0", SSDP4), Peer::new("outside", "uplink", SSDP4));
    until_relayed(&web, &device);
    let asker = Peer::asker("web", "eth0", SSDP4);
    let wanted = search(&name("urn"), 5);
    asker.spread(&wanted);
    let back = device.expect(&wanted).from;
    // Neither one who is elsewhere, nor what is no answer.
    crate::lab::run("ip -n outside address add 203.0.113.7/32 dev lo").ok();
    let far = crate::lab::space::inside("outside", || std::net::UdpSocket::bind("203.0.113.7:0").unwrap());
    far.send_to(&found(&name("far")), back).unwrap();
    device.send(b"hello", back);
    device.send(&notify(&name("tv")), back);
    device.send(&found(&name("port")), SocketAddr::new(back.ip(), back.port() + 1));
    let good = found(&name("good"));
    device.send(&good, back);
    assert_eq!(asker.all_until(&good), Vec::<Vec<u8>>::new(), "only the good one arrives");
}
