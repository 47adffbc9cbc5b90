//! Policies in the random sequences: what the kernel's maps say of each flow is what the policies say one by one. And a
//! container whose egress is denied.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netd::engine::Snapshot;
use netd::model::egress::{Egress, Stance};
use netd::model::endpoint::Endpoint;
use netd::model::host::element::{EdgePair, EdgePort, Element, Verdict};
use netd::model::policy::ruling::Edge;
use netd::model::policy::{self, Policy, Subject};
use netd::model::publication::Protocol;
use netd::model::request::PolicyChange;
use netd_testing::request;

use super::*;

/// What is decided, in any combination.
pub(super) const RULES: [&str; 14] = [
    "default-deny net1",
    "default-deny net2",
    "allow web db:80",
    "deny web db:80",
    "allow web db",
    "deny mail any:81",
    "deny tier=even mail.net2",
    "allow any service:front:80/udp",
    "allow outside web:80",
    "deny outside any",
    "allow host db.net2:81/udp",
    "deny cache outside:80-81",
    "allow network:net2 network:net1",
    "deny any label:tier:80",
];
const PORTS: [(Protocol, u16); 4] =
    [(Protocol::Tcp, 80), (Protocol::Tcp, 81), (Protocol::Udp, 80), (Protocol::Udp, 81)];

/// The last container is held to what it may send, wherever it is.
pub(super) fn egress(container: usize) -> Egress {
    let allow = || ["example.test:443", "192.0.2.0/24"].map(|text| text.parse().unwrap()).into();
    if container + 1 == CONTAINERS.len() {
        Egress::new(Some(Stance::Deny), allow()).unwrap()
    } else {
        Egress::default()
    }
}

/// A side of a flow.
#[derive(Clone, Copy)]
enum Side<'a> {
    Container(&'a Endpoint),
    Edge(Edge),
}

impl World {
    /// Adds the policy, or removes it if it is there.
    pub(super) fn toggle_policy(&mut self, nth: usize, fail_in: Option<usize>) -> Result<(), TestCaseError> {
        let rule = request::rule(RULES[nth]);
        let handle = self.handle();
        let id = |snapshot: &Snapshot| snapshot.desired.policies().find(|policy| policy.rule == rule).map(|one| one.id);
        let (before, networks) = (id(&handle.snapshot()), self.reference.networks.clone());
        let is_known = |subject: &Subject| match subject {
            Subject::Network(name) => networks.contains(name.as_str()),
            _ => true,
        };
        let may = before.is_some() || (is_known(&rule.from) && is_known(&rule.to));
        let change = match before {
            Some(id) => PolicyChange { remove: vec![id], ..PolicyChange::default() },
            None => PolicyChange { add: vec![rule.clone()], ..PolicyChange::default() },
        };
        let done = self.runtime.block_on(handle.change_policies(change));
        self.check(done.map(drop), may, fail_in)?;
        prop_assert_eq!(id(&handle.snapshot()).is_some(), before.is_some() != self.last_done(), "the policy {}", rule);
        Ok(())
    }

    /// Compares all that the kernel would look up with what the policies say.
    pub(super) fn policies_are_right(&self) -> Result<(), TestCaseError> {
        let snapshot = self.handle().snapshot();
        let elements = self.fake.world().elements.clone().unwrap_or_default();
        let own = |endpoint: &&Arc<Endpoint>| NETWORKS.contains(&endpoint.network.as_str());
        let addresses = |endpoint: &'_ Arc<Endpoint>| endpoint.addresses.iter().map(IpNetwork::ip).collect::<Vec<_>>();
        let sides: Vec<(&Endpoint, IpAddr)> = snapshot
            .desired
            .endpoints()
            .filter(own)
            .flat_map(|endpoint| addresses(endpoint).into_iter().map(move |address| (endpoint.as_ref(), address)))
            .collect();
        for port in PORTS {
            for (to, address) in &sides {
                let container = Side::Container(to);
                for edge in Edge::ALL {
                    let meant = [(Side::Edge(edge), container), (container, Side::Edge(edge))]
                        .map(|(from, to)| decided(&snapshot, from, to, port));
                    let looked_up = [received(&elements, edge, *address, port), sent(&elements, edge, *address, port)];
                    prop_assert_eq!(looked_up, meant, "{} with {} at {:?}, received and sent", edge, address, port);
                }
                for (from, sender) in sides.iter().filter(|(_, sender)| sender != address) {
                    let meant = decided(&snapshot, Side::Container(from), container, port);
                    let within = from.network == to.network;
                    let looked_up = between(&elements, within, (*sender, *address), port);
                    prop_assert_eq!(looked_up, meant, "{} to {} at {:?}", sender, address, port);
                    if meant.is_some() {
                        prop_assert!(is_compared(&snapshot, &elements, (from, to)), "{} to {}", sender, address);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What follows from the policies, one by one.
fn decided(snapshot: &Snapshot, from: Side<'_>, to: Side<'_>, port: (Protocol, u16)) -> Option<bool> {
    let says = |policy: &&Arc<Policy>| {
        let rule = &policy.rule;
        let is_of_ports = rule.ports.is_none_or(|ports| ports.contains(port.0, port.1));
        is_of_ports && has(snapshot, &rule.from, from) && has(snapshot, &rule.to, to)
    };
    let all: BTreeSet<policy::Action> = snapshot.desired.policies().filter(says).map(|one| one.rule.action).collect();
    if all.contains(&policy::Action::Deny) {
        Some(false)
    } else if all.contains(&policy::Action::Allow) {
        Some(true)
    } else {
        all.contains(&policy::Action::DefaultDeny).then_some(false)
    }
}

fn has(snapshot: &Snapshot, subject: &Subject, side: Side<'_>) -> bool {
    let endpoint = match (subject, side) {
        (Subject::Any, _) => return true,
        (Subject::Host, Side::Edge(edge)) => return edge == Edge::Host,
        (Subject::Outside, Side::Edge(edge)) => return edge == Edge::Outside,
        (_, Side::Edge(_)) => return false,
        (_, Side::Container(endpoint)) => endpoint,
    };
    let container = endpoint.container.name.as_str();
    match subject {
        Subject::Network(name) => endpoint.network == *name,
        Subject::Name(name) => match name.split_once('.') {
            Some((name, network)) => container == name && endpoint.network.as_str() == network,
            None => container == name,
        },
        Subject::Label(key, value) => {
            let nth = CONTAINERS.iter().position(|name| *name == container);
            let labels = nth.map(services::label).unwrap_or_default();
            labels.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        }
        Subject::Service(name) => {
            let of_name = snapshot.desired.services().filter(|service| service.name.as_str() == name);
            let mut members = of_name.flat_map(|service| snapshot.desired.members(service));
            members.any(|member| member.endpoint.key() == endpoint.key())
        }
        _ => false,
    }
}

/// Whether the kernel compares flows between them at all.
fn is_compared(snapshot: &Snapshot, elements: &BTreeSet<Element>, (from, to): (&Endpoint, &Endpoint)) -> bool {
    let bridge = |endpoint: &Endpoint| snapshot.desired.network(&endpoint.network).unwrap().bridge().unwrap().clone();
    if from.network == to.network {
        let address = |verdict| {
            from.addresses
                .iter()
                .all(|address| elements.contains(&Element::Source(from.host_ifname.clone(), address.ip(), verdict)))
        };
        return address(Verdict::Policy) || address(Verdict::PolicyShut);
    }
    let leaves = |verdict| elements.contains(&Element::Leaving(bridge(from), verdict));
    // The chain of networks that hold containers asks for policies first.
    leaves(Verdict::Sent)
        || leaves(Verdict::SentEgress)
        || elements.contains(&Element::Entering(bridge(to), Verdict::Received))
}

fn permits(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Accept | Verdict::Begin)
}

/// What the kernel finds: under the port, under everything, and whether nothing else enters.
fn found(
    elements: &BTreeSet<Element>,
    ported: impl Fn(&Element) -> Option<Verdict>,
    whole: impl Fn(&Element) -> Option<Verdict>,
    shut: Option<Element>,
) -> Option<bool> {
    let first = elements.iter().find_map(ported).or_else(|| elements.iter().find_map(whole));
    let is_shut = || shut.is_some_and(|shut| elements.contains(&shut));
    first.map(permits).or_else(|| is_shut().then_some(false))
}

fn between(elements: &BTreeSet<Element>, within: bool, ends: (IpAddr, IpAddr), port: (Protocol, u16)) -> Option<bool> {
    let ported = |element: &Element| match element {
        Element::PairPort(one) => {
            let key = (one.within, (one.from, one.to), (one.protocol, one.port));
            (key == (within, ends, port)).then_some(one.verdict)
        }
        _ => None,
    };
    let whole = |element: &Element| match element {
        Element::Pair(one) => ((one.within, (one.from, one.to)) == (within, ends)).then_some(one.verdict),
        _ => None,
    };
    let shut = if within { Element::ShutWithin(ends.1) } else { Element::Shut(ends.1) };
    found(elements, ported, whole, Some(shut))
}

fn received(elements: &BTreeSet<Element>, edge: Edge, at: IpAddr, port: (Protocol, u16)) -> Option<bool> {
    let ported = |element: &Element| match element {
        Element::ReceivedPort(one) => of_port(one, edge, at, port),
        _ => None,
    };
    let whole = |element: &Element| match element {
        Element::Received(one) => of_edge(one, edge, at),
        _ => None,
    };
    found(elements, ported, whole, Some(Element::Shut(at)))
}

fn sent(elements: &BTreeSet<Element>, edge: Edge, at: IpAddr, port: (Protocol, u16)) -> Option<bool> {
    let ported = |element: &Element| match element {
        Element::SentPort(one) => of_port(one, edge, at, port),
        _ => None,
    };
    let whole = |element: &Element| match element {
        Element::Sent(one) => of_edge(one, edge, at),
        _ => None,
    };
    found(elements, ported, whole, None)
}

fn of_port(one: &EdgePort, edge: Edge, at: IpAddr, port: (Protocol, u16)) -> Option<Verdict> {
    ((one.edge, one.address, (one.protocol, one.port)) == (edge, at, port)).then_some(one.verdict)
}

fn of_edge(one: &EdgePair, edge: Edge, at: IpAddr) -> Option<Verdict> {
    ((one.edge, one.address) == (edge, at)).then_some(one.verdict)
}

/// A network came to be compared with policies, or ceased to be, because of one container: what that one had on its other
/// network was among the elements of one side of the change only. So it lost them: its port did not answer any more, and
/// what it sent was dropped.
#[test]
fn a_container_keeps_what_it_has_on_its_other_network() {
    let nth = |text: &str| Action::Policy(RULES.iter().position(|rule| *rule == text).unwrap());
    let connect = |network, port| Action::Connect { container: 0, network, port, ip: None };
    let both = [Action::Create(0), Action::Create(1), nth("allow outside web:80"), connect(1, Some(0))];
    let rest: [&[(Action, Option<usize>)]; 2] = [
        // Another network is left.
        &[(connect(0, None), None), (Action::Disconnect { container: 0, network: 0 }, None)],
        // Another network is not joined after all, at whichever step.
        &[0, 1, 2, 3, 4].map(|step| (connect(0, None), Some(step))),
    ];
    for rest in rest {
        let mut world = World::new();
        let all = both.iter().map(|action| (action.clone(), None)).chain(rest.iter().cloned());
        for (action, fail_in) in all {
            world.act(&action, fail_in).unwrap_or_else(|why| panic!("{action:?}: {why}"));
        }
    }
}
