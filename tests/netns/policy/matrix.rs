//! The matrix: within a network and across networks, allowed, denied, denied by default and revoked, for new flows and open
//! ones, over both families and protocols, with bridged packets passing iptables hooks and without.

use std::thread;

use libtest_mimic::{Completion, Trial};

use super::flow::{Flow, Proto, Server, TCP, UDP, begins, open};
use crate::lab::{Lab, skippable, space};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        skippable("policy: matrix, bridge-nf-call-iptables 0", |lab| matrix(lab, "0")),
        skippable("policy: matrix, bridge-nf-call-iptables 1", |lab| matrix(lab, "1")),
    ]
}

/// A way that a flow goes: its name, from, to, port.
type Way = (&'static str, &'static str, &'static str, u16);

/// Within net1, back, to another port, that clients could have, from a third container; to net2, back, to another port.
const WAYS: [Way; 9] = [
    ("within", "web", "db", 80),
    ("back", "db", "web", 80),
    ("port", "web", "db", 81),
    ("high", "web", "db", 50000),
    ("third", "x", "db", 80),
    ("across", "web", "far", 80),
    ("across-port", "web", "far", 81),
    ("across-back", "far", "web", 80),
    ("to-itself", "far", "far", 80),
];

struct World<'a> {
    lab: &'a Lab,
}

impl World<'_> {
    fn addresses(&self, container: &str) -> Vec<String> {
        let network = if container == "far" { "net2" } else { "net1" };
        self.lab.address(network, container).iter().map(ToString::to_string).collect()
    }

    /// The ways that new flows find, where all families and protocols agree.
    fn beginning(&self) -> String {
        let all = WAYS.iter().flat_map(|way| self.addresses(way.2).into_iter().map(move |to| (way, to)));
        let all: Vec<_> = all.flat_map(|(way, to)| [TCP, UDP].map(|proto| (way, to.clone(), proto))).collect();
        let passes: Vec<bool> = thread::scope(|scope| {
            let ask = |(way, to, proto): &(&Way, String, Proto)| {
                let (from, port, to, proto) = (way.1, way.3, to.clone(), *proto);
                scope.spawn(move || begins(from, proto, &to, port))
            };
            let asking: Vec<_> = all.iter().map(ask).collect();
            asking.into_iter().map(|thread| thread.join().expect("no cell panics")).collect()
        });
        let named = |(way, _, _, _): &Way| {
            let of: Vec<bool> = all.iter().zip(&passes).filter(|((w, ..), _)| w.0 == *way).map(|(_, p)| *p).collect();
            assert!(of.windows(2).all(|two| two[0] == two[1]), "{way}: {of:?} (v4 tcp, v4 udp, v6 tcp, v6 udp)");
            of[0].then_some(*way)
        };
        WAYS.iter().filter_map(named).collect::<Vec<_>>().join(" ")
    }

    fn open(&self, (_, from, to, port): Way) -> Vec<Flow> {
        let all = self.addresses(to).into_iter().flat_map(|to| [TCP, UDP].map(|proto| (to.clone(), proto)));
        all.map(|(to, proto)| open(from, proto, &to, port).unwrap_or_else(|| panic!("{from} to {to} {proto:?}")))
            .collect()
    }

    fn policy(&self, words: &str) {
        self.lab.netd(&format!("policy {words}")).ok();
    }
}

fn matrix(lab: &Lab, bridge_nf: &str) -> Completion {
    if let Err(why) = space::bridge_netfilter(bridge_nf) {
        return Completion::ignored_with(why);
    }
    lab.start_daemon();
    for network in ["net1", "net2"] {
        lab.netd(&format!("network create {network} --ipv6")).ok();
    }
    for (network, name) in [("net1", "web"), ("net1", "db"), ("net1", "x"), ("net2", "far")] {
        lab.connected(network, name, "");
    }
    let ports = [("web", 80), ("db", 80), ("db", 81), ("db", 50000), ("far", 80), ("far", 81)];
    let _servers = ports.map(|(name, port)| Server::start(name, port));
    decided(&World { lab });
    assert_eq!(lab.diff(), "");
    Completion::Completed
}

fn goes_on(flows: &mut [Flow], when: &str) {
    assert!(flows.iter_mut().all(Flow::goes_on), "an open flow goes on {when}");
}

fn has_ended(flows: &mut [Flow], when: &str) {
    assert!(flows.iter_mut().all(Flow::has_ended), "an open flow ends {when}");
}

fn decided(world: &World<'_>) {
    let open = "within back port high third";
    assert_eq!(world.beginning(), format!("{open} to-itself"), "without policies");
    let mut within = world.open(WAYS[0]);
    let mut high = world.open(WAYS[3]);
    let mut back = world.open(WAYS[1]);
    // Allowed across networks.
    for ports in ["80", "80/udp"] {
        world.policy(&format!("allow web far:{ports}"));
    }
    assert_eq!(world.beginning(), format!("{open} across to-itself"), "allowed across");
    let mut across = world.open(WAYS[5]);
    for flows in [&mut within, &mut high, &mut back] {
        goes_on(flows, "when others are allowed");
    }
    // Denied within a network: a port, and everything.
    for ports in ["80", "80/udp", "50000", "50000/udp"] {
        world.policy(&format!("deny web db:{ports}"));
    }
    assert_eq!(world.beginning(), "back port third across to-itself", "denied within");
    has_ended(&mut within, "when it is denied");
    has_ended(&mut high, "when it is denied, whichever its port is");
    goes_on(&mut back, "when only the other direction is denied");
    world.policy("deny web db");
    assert_eq!(world.beginning(), "back third across to-itself", "denied to every port");
    goes_on(&mut back, "when all of the other direction is denied");
    goes_on(&mut across, "when others are denied");
    world.policy("rm 3 4 5 6 7");
    assert_eq!(world.beginning(), format!("{open} across to-itself"), "no longer denied");
    // Denied by default; what is allowed goes on.
    let (mut kept, mut lost) = (world.open(WAYS[0]), world.open(WAYS[4]));
    for ports in ["80", "80/udp"] {
        world.policy(&format!("allow web db:{ports}"));
    }
    world.policy("default-deny net1");
    assert_eq!(world.beginning(), "within across to-itself", "denied by default");
    goes_on(&mut kept, "when it is allowed and all else is denied by default");
    has_ended(&mut lost, "when it is denied by default");
    // As well where the answers come from a network that is denied by default.
    world.policy("default-deny net2");
    assert_eq!(world.beginning(), "within across to-itself", "both networks denied by default");
    goes_on(&mut across, "when it is allowed and all else is denied by default");
    world.policy("rm 11");
    // A deny stands before an allow.
    world.policy("deny web far:80/tcp");
    world.policy("deny web far:80/udp");
    assert_eq!(world.beginning(), "within to-itself", "denied and allowed");
    has_ended(&mut across, "when it is denied across networks");
    world.policy("rm 12 13");
    let mut across = world.open(WAYS[5]);
    // Revoked.
    world.policy("rm 1 2 8 9");
    assert_eq!(world.beginning(), "to-itself", "revoked");
    has_ended(&mut kept, "when it is revoked");
    has_ended(&mut across, "when it is revoked across networks");
    world.policy("rm 10");
    assert_eq!(world.beginning(), format!("{open} to-itself"), "without policies again");
}
