//! What another program does to single objects of netd while the daemon runs, without deleting everything.

use std::collections::BTreeSet;

use netd::kernel::KernelEvent;
use netd::kernel::fake::World as FakeWorld;
use netd::kernel::fake::faults::Faults;
use netd::model::names::IfName;
use proptest::prelude::*;

use super::World;

/// The kinds of changes, drawn by their index.
pub(super) const KINDS: usize = 19;

impl World {
    /// Changes one object, tells the engine as the kernel would, and expects the repair to leave nothing to repair.
    pub(super) fn tamper(&mut self, kind: usize, which: usize) -> Result<(), TestCaseError> {
        let ends: BTreeSet<IfName> = self.fake.world().links.keys().cloned().collect();
        change(&mut self.fake.world(), kind, which);
        let after = |engine: &Self| {
            engine.fake.emit(&KernelEvent::Changed);
            engine.fake.emit(&KernelEvent::ContainersChanged(ends.clone()));
            engine.fake.emit(&KernelEvent::ContainerTablesChanged(BTreeSet::new()));
            // Answered after the repairs.
            engine.runtime.block_on(engine.handle().diff()).unwrap()
        };
        let found = after(self);
        prop_assert!(found.is_empty(), "change {} of {}: {:?}", kind, which, found);
        // Without the counters of calls.
        let look = || {
            let mut world = self.fake.world().clone();
            world.faults = Faults::default();
            format!("{world:?}")
        };
        let repaired = look();
        prop_assert!(after(self).is_empty());
        prop_assert_eq!(look(), repaired, "a second repair changes nothing");
        Ok(())
    }
}

/// Changes nothing if there is no such object.
fn change(world: &mut FakeWorld, kind: usize, which: usize) {
    let nth = |names: Vec<IfName>| (!names.is_empty()).then(|| names[which % names.len()].clone());
    let bridge = nth(world.bridges.keys().cloned().collect());
    let end = nth(world.links.keys().cloned().collect());
    let moved: IfName = "moved9".parse().unwrap();
    match (kind, bridge, end) {
        (0, Some(bridge), _) => _ = world.down.insert(bridge),
        (1, Some(bridge), _) => world.bridges.get_mut(&bridge).unwrap().mtu = 576,
        (2, Some(bridge), _) => world.bridges.get_mut(&bridge).unwrap().addresses.clear(),
        (3, Some(bridge), _) => {
            let mut link = world.bridges.remove(&bridge).unwrap();
            link.name = moved.clone();
            for port in world.links.values_mut() {
                let pair = port.kind.pair_mut().unwrap();
                if pair.bridge == bridge {
                    pair.bridge = moved.clone();
                }
            }
            world.bridges.insert(moved, link);
        }
        (4, Some(bridge), _) => _ = world.bridges.remove(&bridge),
        (5, _, Some(end)) => _ = world.down.insert(end),
        (6, _, Some(end)) => {
            let mut link = world.links.remove(&end).unwrap();
            link.kind.pair_mut().unwrap().host_ifname = moved.clone();
            world.links.insert(moved, link);
        }
        (7, _, Some(end)) => {
            let pair = world.links.get_mut(&end).unwrap().kind.pair_mut().unwrap();
            pair.bridge = "br9".parse().unwrap();
        }
        (8, _, Some(end)) => {
            let pair = world.links.get_mut(&end).unwrap().kind.pair_mut().unwrap();
            pair.isolated = !pair.isolated;
        }
        (9, _, Some(end)) => world.links.get_mut(&end).unwrap().addresses.clear(),
        (10, _, Some(end)) => _ = world.down_inside.insert(end),
        (11, _, Some(end)) => {
            let inode = world.links[&end].netns.id.inode;
            world.routes.remove(&inode);
        }
        (12, ..) => {
            let element = world.elements.as_ref().and_then(|all| all.iter().nth(which % all.len().max(1)).cloned());
            _ = element.map(|element| world.elements.as_mut().unwrap().remove(&element));
        }
        (13, ..) => world.structure_differs = true,
        (14, ..) => world.forwarding = Default::default(),
        (15, ..) => {
            let name = world.resolv.keys().nth(which % world.resolv.len().max(1)).cloned();
            _ = name.map(|name| world.resolv.remove(&name));
        }
        (16, ..) => {
            let inode = world.inside.keys().nth(which % world.inside.len().max(1)).copied();
            _ = inode.map(|inode| world.inside.remove(&inode));
        }
        (18, _, Some(end)) => _ = world.with_ipv6.insert(end),
        (17, _, Some(end)) => _ = world.unrouted_inside.insert(end),
        _ => {}
    }
}
