//! Containers that send what is not theirs: addresses of neighbours, router advertisements, a DHCP server's answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{PATIENCE, contains, seen, until, until_within};
use serde_json::json;

use crate::lab::cni::{call, reference};
use crate::lab::frames::{ARP, IPV4, IPV6, Mac, VLAN, Wire, arp_reply, frame, icmpv6, ipv4, ipv6, tagged, udp};
use crate::lab::look::addresses;
use crate::lab::space::bridge_netfilter;
use crate::lab::{Dig, HOST4, Lab, Proto, Server, ask, run, skippable, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("guard: a container cannot send what is not its own, a trusted one can", forged),
        trial("guard: what a container needs to send passes", own),
        trial("guard: an address taken from a neighbour gives neither its names nor its port", taken),
        trial("guard: what is dropped is counted at its container", counted),
        trial("guard: replies of a container on two networks leave over either", two_networks),
        trial("guard: a network is trusted as a whole", trusted_network),
        skippable("guard: the bridge of another CNI plugin is guarded as well", adopted),
    ]
}

/// An interface on a network with both families.
#[derive(Clone, Copy)]
struct Who {
    mac: Mac,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Who {
    fn of(lab: &Lab, container: &str) -> Self {
        let endpoint = lab.endpoint("net1", container);
        let mac: Vec<u8> = endpoint["mac"].as_str().unwrap().split(':').map(hex).collect();
        let [IpAddr::V4(v4), IpAddr::V6(v6)] = lab.address("net1", container)[..] else { panic!("two addresses") };
        Self { mac: mac.try_into().unwrap(), v4, v6 }
    }

    fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.map(u16::from);
        Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
    }
}

fn hex(pair: &str) -> u8 {
    u8::from_str_radix(pair, 16).unwrap()
}

/// The containers `victim`, `neighbour` and `attacker` on net1, the last one connected with these options.
fn three(lab: &Lab, options: &str) -> [Who; 3] {
    alone();
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "victim", "");
    lab.connected("net1", "neighbour", "");
    lab.connected("net1", "attacker", options);
    ["victim", "neighbour", "attacker"].map(|name| Who::of(lab, name))
}

/// Keeps the frames of bridges from `table inet netd`: where the kernel can show them, it would refuse some as well.
fn alone() {
    _ = bridge_netfilter("0");
}

fn neighbour_advertisement(target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    // Override, and the option "target link-layer address" (RFC 4861, 4.4).
    [&[0x20, 0, 0, 0][..], &target.octets(), &[2, 1], &mac].concat()
}

fn neighbour_solicitation(target: Ipv6Addr) -> Vec<u8> {
    [&[0; 4][..], &target.octets()].concat()
}

/// The frames that `me` may not send, each addressed to the victim.
fn forgeries(me: Who, victim: Who, neighbour: Who) -> Vec<(&'static str, Vec<u8>)> {
    let from = |mac, kind, content: &[u8]| frame(victim.mac, mac, kind, content);
    let mine = |kind, content: &[u8]| from(me.mac, kind, content);
    let (none4, none6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    let hello = udp(1000, 1000, b"x");
    let stolen = ipv4(neighbour.v4, victim.v4, 17, &hello);
    let advertised = neighbour_advertisement(neighbour.v6, me.mac);
    // Lifetime of a default router: half an hour (RFC 4861, 4.2).
    let router = [64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let advertised_router = icmpv6(me.link_local(), victim.link_local(), 134, &router);
    let redirect6 = [&[0; 4][..], &me.link_local().octets(), &neighbour.v6.octets()].concat();
    let redirect4 = [&[5, 1, 0, 0][..], &me.v4.octets(), &ipv4(victim.v4, neighbour.v4, 17, &hello)].concat();
    vec![
        ("IPv4 from a neighbour's address", mine(IPV4, &stolen)),
        ("IPv4 from nowhere", mine(IPV4, &ipv4(none4, victim.v4, 17, &hello))),
        ("IPv4 from an address of nobody", mine(IPV4, &ipv4([192, 0, 2, 1].into(), victim.v4, 17, &hello))),
        ("IPv4 with a neighbour's MAC address", from(neighbour.mac, IPV4, &ipv4(me.v4, victim.v4, 17, &hello))),
        ("IPv4 from a neighbour's address, with VLAN tag 0", mine(VLAN, &tagged(0, IPV4, &stolen))),
        ("IPv4 with two VLAN tags", mine(VLAN, &tagged(0, VLAN, &tagged(0, IPV4, &stolen)))),
        ("ARP for a neighbour's address", mine(ARP, &arp_reply((me.mac, neighbour.v4), (victim.mac, victim.v4)))),
        ("ARP with a neighbour's MAC address", mine(ARP, &arp_reply((neighbour.mac, me.v4), (victim.mac, victim.v4)))),
        ("IPv6 from a neighbour's address", mine(IPV6, &ipv6(neighbour.v6, victim.v6, 17, &hello))),
        (
            "IPv6 from a neighbour's link-local address",
            mine(IPV6, &ipv6(neighbour.link_local(), victim.v6, 17, &hello)),
        ),
        ("IPv6 from nowhere", mine(IPV6, &ipv6(none6, victim.v6, 17, &hello))),
        ("neighbour advertisement for a neighbour's address", mine(IPV6, &icmpv6(me.v6, victim.v6, 136, &advertised))),
        (
            "claim to a neighbour's address",
            mine(IPV6, &icmpv6(none6, victim.v6, 135, &neighbour_solicitation(neighbour.v6))),
        ),
        ("router advertisement", mine(IPV6, &advertised_router)),
        ("router advertisement with VLAN tag 0", mine(VLAN, &tagged(0, IPV6, &advertised_router))),
        ("redirect", mine(IPV6, &icmpv6(me.link_local(), victim.link_local(), 137, &redirect6))),
        ("redirect, IPv4", mine(IPV4, &ipv4(me.v4, victim.v4, 1, &redirect4))),
        ("DHCP server", mine(IPV4, &ipv4(me.v4, victim.v4, 17, &udp(67, 68, b"x")))),
        ("DHCPv6 server", mine(IPV6, &ipv6(me.link_local(), victim.link_local(), 17, &udp(547, 546, b"x")))),
    ]
}

/// What `me` may send, each addressed to the victim.
fn honest(me: Who, victim: Who) -> Vec<(&'static str, Vec<u8>)> {
    let mine = |kind, content: &[u8]| frame(victim.mac, me.mac, kind, content);
    let (none4, none6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    let hello = udp(1000, 1000, b"x");
    let advertised = neighbour_advertisement(me.v6, me.mac);
    let claimed = neighbour_solicitation(me.link_local());
    vec![
        ("IPv4", mine(IPV4, &ipv4(me.v4, victim.v4, 17, &hello))),
        ("IPv4 with VLAN tag 0", mine(VLAN, &tagged(0, IPV4, &ipv4(me.v4, victim.v4, 17, &hello)))),
        ("ARP", mine(ARP, &arp_reply((me.mac, me.v4), (victim.mac, victim.v4)))),
        ("the question whether an address is free", mine(ARP, &arp_reply((me.mac, none4), (victim.mac, victim.v4)))),
        ("DHCP client", mine(IPV4, &ipv4(none4, Ipv4Addr::BROADCAST, 17, &udp(68, 67, b"x")))),
        ("IPv6", mine(IPV6, &ipv6(me.v6, victim.v6, 17, &hello))),
        ("IPv6 from its link-local address", mine(IPV6, &ipv6(me.link_local(), victim.v6, 17, &hello))),
        ("neighbour advertisement", mine(IPV6, &icmpv6(me.v6, victim.v6, 136, &advertised))),
        ("duplicate address detection", mine(IPV6, &icmpv6(none6, victim.v6, 135, &claimed))),
        ("router solicitation", mine(IPV6, &icmpv6(none6, victim.v6, 133, &[0; 4]))),
        ("MLD report", mine(IPV6, &icmpv6(none6, victim.v6, 143, &[0; 4]))),
        ("another protocol (LLDP)", mine(0x88cc, b"x")),
    ]
}

/// Those of the frames that do not reach the victim.
fn lost(frames: Vec<(&'static str, Vec<u8>)>, [victim, _, me]: [Who; 3]) -> Vec<&'static str> {
    let (from, to) = (Wire::open("attacker", "eth0"), Wire::open("victim", "eth0"));
    let mut last = 0u16;
    let is_lost = |(name, sent): (&'static str, Vec<u8>)| {
        last += 1;
        let mark = frame(victim.mac, me.mac, IPV4, &ipv4(me.v4, victim.v4, 17, &udp(2000, last, b"last")));
        from.send(&sent);
        from.send(&mark);
        (!to.sees_before(&sent, &mark)).then_some(name)
    };
    frames.into_iter().filter_map(is_lost).collect()
}

fn forged(lab: &Lab) {
    let all @ [victim, neighbour, me] = three(lab, "");
    let frames = || forgeries(me, victim, neighbour);
    let names: Vec<&str> = frames().into_iter().map(|(name, _)| name).collect();
    assert_eq!(lost(frames(), all), names);
    lab.netd("disconnect net1 attacker").ok();
    lab.netd("connect net1 attacker --trusted").ok();
    let me = Who::of(lab, "attacker");
    assert_eq!(lost(forgeries(me, victim, neighbour), [victim, neighbour, me]), [""; 0], "of a trusted one");
}

fn own(lab: &Lab) {
    let all @ [victim, _, me] = three(lab, "");
    assert_eq!(lost(honest(me, victim), all), [""; 0]);
    assert_eq!(lab.endpoint("net1", "attacker").get("refused_packets"), None);
}

/// The address of a neighbour that is also on another network, and has a published port.
fn taken(lab: &Lab) {
    let [victim, ..] = three(lab, "");
    lab.netd("network create other").ok();
    lab.connected("other", "secret", "");
    lab.netd("connect other victim -p 4000:80").ok();
    let take = |container: &str| {
        run(&format!("ip -n {container} address add {}/32 dev eth0", victim.v4)).ok();
        run(&format!("ip -n {container} -6 address add {}/128 dev eth0 nodad", victim.v6)).ok();
    };
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    let secret: Vec<String> = lab.address("other", "secret").iter().map(ToString::to_string).collect();
    Dig::expect("victim", &format!("@{gateway} secret"), &[&secret[0]]);
    let _servers = [Server::start("victim", "victim", 80), Server::start("attacker", "attacker", 80)];
    take("attacker");
    let asked = || {
        run("ip -n host neigh flush all").ok();
        let ask = format!("dig -b {} @{gateway} +short +tries=1 +time=1 secret", victim.v4);
        lab.exec("attacker", &ask).stdout
    };
    for _ in 0..20 {
        assert!(!asked().contains(&secret[0]));
        assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "victim");
    }
    lab.netd("disconnect net1 attacker").ok();
    lab.netd("connect net1 attacker --trusted").ok();
    take("attacker");
    until("a trusted one can take it", || contains(asked(), &secret[0]));
}

fn counted(lab: &Lab) {
    let all @ [victim, neighbour, me] = three(lab, "");
    let forged = forgeries(me, victim, neighbour);
    let sent = forged.len() as u64;
    lost(forged, all);
    let shown = || lab.endpoint("net1", "attacker")["refused_packets"].as_u64();
    // netd looks every 10 s.
    until_within(4 * PATIENCE, "the count", || seen(shown(), |shown| *shown == Some(sent)));
    assert_eq!(lab.endpoint("net1", "victim").get("refused_packets"), None);
}

fn two_networks(lab: &Lab) {
    let all @ [victim, _, me] = three(lab, "");
    lab.netd("network create net2 --ipv6").ok();
    // What arrived over net2 is answered over the network of the default route.
    lab.netd("connect net2 attacker").ok();
    let [IpAddr::V4(other4), IpAddr::V6(other6)] = lab.address("net2", "attacker")[..] else { panic!("two addresses") };
    let hello = udp(1000, 1000, b"x");
    let mine = |kind, content: &[u8]| frame(victim.mac, me.mac, kind, content);
    let replies = vec![
        ("IPv4", mine(IPV4, &ipv4(other4, victim.v4, 17, &hello))),
        ("IPv6", mine(IPV6, &ipv6(other6, victim.v6, 17, &hello))),
        ("ARP", mine(ARP, &arp_reply((me.mac, other4), (victim.mac, victim.v4)))),
    ];
    assert_eq!(lost(replies, all), [""; 0], "from its address on net2");
    lab.netd("connect net2 victim").ok();
    lab.connected("net2", "other", "");
    let _server = Server::start("victim", "victim", 80);
    for (client, network) in [("attacker", "net1"), ("other", "net2"), ("host", "net2")] {
        for address in lab.address(network, "victim") {
            assert_eq!(ask(client, Proto::Tcp, (address, 80)).who, "victim");
            assert_eq!(ask(client, Proto::Udp, (address, 80)).who, "victim");
        }
    }
}

/// The bridge and the interfaces are the reference plugin's, netd is chained behind it.
fn adopted(lab: &Lab) -> Completion {
    let (Some(program), Some(_)) = (reference("bridge"), reference("host-local")) else {
        return Completion::ignored_with("containernetworking-plugins is not installed");
    };
    alone();
    lab.start_daemon();
    let plugin = json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "cniVersion": "1.0.0",
        "ipam": {"type": "host-local", "dataDir": "/run/lab/ipam",
            "ranges": [[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd22::/64"}]]}});
    for name in ["victim", "neighbour", "attacker"] {
        lab.container(name);
        let made = call("ADD", name).with(plugin.clone()).run_program(&program).ok();
        call("ADD", name).conf(|conf| conf.version("1.0.0").prev_result(&made)).run().ok();
    }
    let all @ [victim, neighbour, me] = ["victim", "neighbour", "attacker"].map(|name| Who::of(lab, name));
    let forged = forgeries(me, victim, neighbour);
    let names: Vec<&str> = forged.iter().map(|(name, _)| *name).collect();
    assert_eq!(lost(forged, all), names);
    assert_eq!(lost(honest(me, victim), all), [""; 0]);
    Completion::Completed
}

fn trusted_network(lab: &Lab) {
    alone();
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 -o trusted=true").ok();
    for name in ["victim", "neighbour", "attacker"] {
        lab.connected("net1", name, "");
    }
    let all @ [victim, neighbour, me] = ["victim", "neighbour", "attacker"].map(|name| Who::of(lab, name));
    assert_eq!(lost(forgeries(me, victim, neighbour), all), [""; 0]);
    assert_eq!(lab.network("net1")["trusted"], true);
    assert!(!addresses("victim", "eth0").is_empty());
}
