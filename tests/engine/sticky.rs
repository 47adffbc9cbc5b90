//! Sticky addresses against a reference: the second network keeps them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netd::engine::Snapshot;
use proptest::prelude::*;

use super::NETWORKS;
use super::reservations::is_taken;

/// The network that keeps addresses.
pub(super) const STICKY: usize = 1;

/// The name that each address is kept for.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(BTreeMap<IpAddr, &'static str>);

impl Kept {
    /// Checks the address of a container; `name` is set if the container can return, `before` is the earlier state.
    pub(super) fn judge(
        &mut self,
        before: &Snapshot,
        after: &Snapshot,
        (name, got, asked): (Option<&'static str>, IpAddr, bool),
    ) -> Result<(), TestCaseError> {
        let free = |ip: &IpAddr| !is_taken(before, *ip) && before.desired.at_gateway(*ip).is_none();
        let subnet = after.desired.network(&NETWORKS[STICKY].parse().unwrap()).unwrap().subnets[0].subnet;
        let usable = (1..7u128).filter_map(|number| subnet.address(subnet.bounds().0 + number));
        let own: Vec<IpAddr> =
            self.0.iter().filter(|(ip, of)| Some(**of) == name && free(ip)).map(|(ip, _)| *ip).collect();
        let anothers = |ip: &IpAddr| self.0.get(ip).is_some_and(|of| Some(*of) != name);
        if !asked && !own.is_empty() {
            prop_assert!(own.contains(&got), "{name:?} had {own:?} and got {got}");
        } else if !asked && anothers(&got) {
            let spared: Vec<IpAddr> = usable.filter(|ip| free(ip) && !anothers(ip)).collect();
            prop_assert!(spared.is_empty(), "{name:?} got {got}, not {spared:?}");
        }
        if let Some(name) = name {
            self.0.retain(|_, of| *of != name);
            self.0.insert(got, name);
        }
        Ok(())
    }

    /// The network is gone.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
