//! What must be true after each command: nothing is held twice, or by nobody, or missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use netd::engine::Snapshot;
use netd::kernel::fake;
use netd::logic::target;
use netd::model::endpoint::Endpoint;
use netd::model::host::element::Element;
use netd::model::publication::Publication;
use proptest::prelude::*;

use super::{CONTAINERS, NETWORKS, PODS, World};

impl World {
    /// In the kernel, in the store, and in what readers see.
    pub(super) fn invariants(&self) -> Result<(), TestCaseError> {
        let snapshot = self.handle().snapshot();
        let seen: BTreeSet<(String, String)> = snapshot
            .desired
            .endpoints()
            .map(|endpoint| {
                let of_pod = endpoint.owner.is_some();
                let netns = if of_pod { endpoint.ifname.to_string() } else { endpoint.network.to_string() };
                (endpoint.container.name.to_string(), netns)
            })
            .collect();
        let meant: BTreeSet<(String, String)> = self
            .reference
            .endpoints
            .keys()
            .map(|(container, network)| (CONTAINERS[*container].to_owned(), NETWORKS[*network].to_owned()))
            .collect();
        let pods = self.reference.attachments.keys();
        let pods = pods.map(|(pod, network)| (PODS[*pod].to_owned(), format!("eth{network}")));
        let meant: BTreeSet<(String, String)> = meant.into_iter().chain(pods).collect();
        prop_assert_eq!(&seen, &meant, "endpoints");
        let networks: BTreeSet<String> = snapshot.desired.networks().map(|network| network.name.to_string()).collect();
        let meant: BTreeSet<String> = self.reference.networks.iter().map(ToString::to_string).collect();
        prop_assert_eq!(networks, meant, "networks");
        let world = self.fake.world().clone();
        interfaces(&snapshot, &world)?;
        ports(&snapshot, &world)?;
        routes(&snapshot, &world)?;
        let stored: BTreeSet<_> = self.store.stored().endpoints.iter().map(Endpoint::key).collect();
        let wanted: BTreeSet<_> = snapshot.desired.endpoints().map(|e| e.key()).collect();
        prop_assert_eq!(stored, wanted, "stored endpoints");
        let released = self.store.stored().released;
        let both = released.iter().find(|(_, ip, _)| snapshot.desired.at_address(*ip).is_some());
        prop_assert_eq!(both, None, "an address is held and released");
        Ok(())
    }
}

fn interfaces(snapshot: &Snapshot, world: &fake::World) -> Result<(), TestCaseError> {
    let addresses: Vec<_> = snapshot.desired.endpoints().flat_map(|e| e.addresses.iter().map(IpNetwork::ip)).collect();
    let distinct: BTreeSet<_> = addresses.iter().collect();
    prop_assert_eq!(addresses.len(), distinct.len(), "an address is held twice");
    let own = |e: &&Arc<Endpoint>| snapshot.desired.network(&e.network).unwrap().makes_interfaces();
    let links: BTreeMap<_, _> = world.links.values().map(|l| (l.host_ifname.clone(), l.addresses.clone())).collect();
    let wanted = snapshot.desired.endpoints().filter(own).map(|e| (e.host_ifname.clone(), e.addresses.clone()));
    prop_assert_eq!(links, wanted.collect::<BTreeMap<_, _>>(), "interfaces and their addresses");
    let shaping = |e: &Arc<Endpoint>| target::shaping(snapshot.desired.network(&e.network).unwrap(), e);
    let wanted = snapshot.desired.endpoints().filter_map(shaping).map(|s| (s.host_ifname.clone(), s));
    prop_assert_eq!(&world.shapings, &wanted.collect::<BTreeMap<_, _>>(), "limits");
    let files = snapshot.desired.containers().map(|c| (c.container.name.to_string(), snapshot.resolv_conf(c)));
    prop_assert_eq!(&world.resolv, &files.collect::<BTreeMap<_, _>>(), "resolv.conf");
    let mut elements = target::all_elements(&snapshot.desired);
    elements.extend(target::gateways(&snapshot.desired).into_iter().flat_map(|at| target::name_server(at, 53)));
    prop_assert_eq!(world.elements.as_ref(), Some(&elements), "elements");
    let inside = |c| target::inside(&snapshot.desired, &snapshot.gateway_blocked, c, false);
    let inside = snapshot.desired.containers().filter_map(|c| inside(c)).map(|inside| (inside.netns.id.inode, inside));
    prop_assert_eq!(&world.inside, &inside.collect::<BTreeMap<_, _>>(), "name services within");
    let bridges: BTreeSet<_> = world.bridges.keys().cloned().collect();
    let wanted: BTreeSet<_> =
        snapshot.desired.networks().filter_map(|n| n.own_bridge().map(|own| own.name.clone())).collect();
    prop_assert_eq!(bridges, wanted, "bridges");
    Ok(())
}

fn ports(snapshot: &Snapshot, world: &fake::World) -> Result<(), TestCaseError> {
    let published: BTreeMap<_, _> = ports_of(&world.elements.clone().unwrap_or_default());
    let held: BTreeSet<_> = world.held.iter().map(|held| (held.address, held.port)).collect();
    // A runtime holds the ports of its containers itself.
    let by_hand = snapshot.desired.endpoints().filter(|e| e.owner.is_none()).flat_map(|e| &e.publications);
    let every = std::net::IpAddr::from([0, 0, 0, 0]);
    let at = |p: &Publication| p.host.ports().map(|port| (p.host_ip.unwrap_or(every), port)).collect::<Vec<_>>();
    let by_hand: BTreeSet<HeldAt> = by_hand.flat_map(at).collect();
    prop_assert!(by_hand.iter().all(|port| published.contains_key(port)), "a port is not published");
    let in_table = by_hand;
    prop_assert_eq!(held, in_table, "held sockets and published elements");
    for to in published.values() {
        prop_assert!(snapshot.desired.at_address(*to).is_some(), "a port leads to nobody: {}", to);
    }
    Ok(())
}

fn routes(snapshot: &Snapshot, world: &fake::World) -> Result<(), TestCaseError> {
    let own = |e: &&Arc<Endpoint>| snapshot.desired.network(&e.network).unwrap().makes_interfaces();
    for routes in world.routes.values() {
        prop_assert!(routes.len() <= 1, "more than one default route: {:?}", routes);
    }
    for attached in snapshot.desired.containers() {
        let inode = attached.container.netns.id.inode;
        let has: Vec<String> =
            world.routes.get(&inode).into_iter().flatten().map(|r| format!("{} {}", r.ifname, r.gateway)).collect();
        let way_out = attached.endpoints.iter().find(|e| !e.gateways.is_empty());
        let wanted: Vec<String> = way_out.iter().map(|e| format!("{} {}", e.ifname, e.gateways[0])).collect();
        // The one over another program's interface is that program's to set.
        let foreign = way_out.is_some_and(|e| !own(&e));
        prop_assert!(has == wanted || foreign && has.is_empty(), "default routes: {:?}, not {:?}", has, wanted);
    }
    Ok(())
}

type HeldAt = (std::net::IpAddr, u16);

fn ports_of(elements: &BTreeSet<Element>) -> BTreeMap<HeldAt, std::net::IpAddr> {
    let every = std::net::IpAddr::from([0, 0, 0, 0]);
    let mut ports = BTreeMap::new();
    for element in elements {
        match element {
            Element::Publish(published) => {
                let old = ports.insert((published.host_ip.unwrap_or(every), published.port), published.to);
                assert_eq!(old, None, "a port leads to two places");
            }
            Element::PublishRange(range) => {
                for port in range.ports.ports() {
                    let old = ports.insert((range.host_ip.unwrap_or(every), port), range.to);
                    assert_eq!(old, None, "a port leads to two places");
                }
            }
            _ => {}
        }
    }
    ports
}
