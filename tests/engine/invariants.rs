//! Invariants after each command: no resource is held twice, leaked or missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use netd::engine::Snapshot;
use netd::kernel::fake;
use netd::model::endpoint::Endpoint;
use proptest::prelude::*;

use super::reservations::{IDS, is_taken};
use super::{CONTAINERS, NETWORKS, PODS, World, model};

impl World {
    /// Checks the kernel, the store and the snapshot.
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
        prop_assert_eq!(model::differences(&snapshot, &world), Vec::<String>::new(), "the kernel");
        routes(&snapshot, &world)?;
        let stored: BTreeSet<_> = self.store.stored().endpoints.iter().map(Endpoint::key).collect();
        let expected: BTreeSet<_> = snapshot.desired.endpoints().map(|e| e.key()).collect();
        prop_assert_eq!(stored, expected, "stored endpoints");
        let reserved: BTreeSet<String> = snapshot.desired.reservations().map(|one| one.id.to_string()).collect();
        let meant: BTreeSet<String> = self.reference.reservations.keys().map(|id| IDS[*id].to_owned()).collect();
        prop_assert_eq!(&reserved, &meant, "reservations");
        let stored: BTreeSet<String> = self.store.stored().reservations.iter().map(|one| one.id.to_string()).collect();
        prop_assert_eq!(&stored, &reserved, "stored reservations");
        let released = self.store.stored().released;
        let both = released.iter().find(|(_, ip, _)| is_taken(&snapshot, *ip));
        prop_assert_eq!(both, None, "an address is held and released");
        Ok(())
    }
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
        let expected: Vec<String> = way_out.iter().map(|e| format!("{} {}", e.ifname, e.gateways[0])).collect();
        // The default route over another program's interface is set by that program.
        let foreign = way_out.is_some_and(|e| !own(&e));
        prop_assert!(has == expected || foreign && has.is_empty(), "default routes: {:?}, not {:?}", has, expected);
    }
    Ok(())
}
