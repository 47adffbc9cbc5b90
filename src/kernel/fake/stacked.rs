//! Interfaces on top of those of the fake kernel's host, and what Linux refuses about them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{World, io};
use crate::kernel::KernelError;
use crate::model::endpoint::Netns;
use crate::model::host::observed::ObservedKind;
use crate::model::host::step::{LinkKind, ShimLink, StackedLink};
use crate::model::names::IfName;

impl World {
    /// Whether there is a bridge with that name, whoever made it.
    pub(super) fn has_bridge(&self, name: &IfName) -> bool {
        let of_host = self.parents.get(name).is_some_and(|parent| parent.kind == ObservedKind::Bridge);
        of_host || self.bridges.contains_key(name)
    }

    /// Whether the interface can be on top of its parent (`macvlan_common_newlink`, drivers/net/macvlan.c).
    pub(super) fn stack(&self, stacked: &StackedLink) -> Result<(), KernelError> {
        let refuse = |why| Err(io("create an interface on", &stacked.parent, why));
        let Some(parent) = self.parents.get(&stacked.parent) else { return refuse("no such device") };
        if parent.loopback {
            return refuse("invalid argument");
        }
        if parent.master.is_some() {
            return refuse("device or resource busy");
        }
        if !parent.up {
            return refuse("network is down");
        }
        let others = self.links.values().filter_map(|link| match &link.kind {
            LinkKind::Stacked(other) if other.parent == stacked.parent => Some(other.mode),
            _ => None,
        });
        let shims = self.shims.values().filter(|shim| shim.parent == stacked.parent).count();
        let others: Vec<_> = others.collect();
        let taken = others.iter().any(|mode| mode.takes_over() || mode.driver() != stacked.mode.driver());
        if taken || (stacked.mode.takes_over() && others.len() + shims > 0) {
            return refuse("invalid argument");
        }
        Ok(())
    }

    pub(super) fn add_shim(&mut self, shim: &ShimLink) -> Result<(), KernelError> {
        if !self.parents.contains_key(&shim.parent) {
            return Err(io("create an interface on", &shim.parent, "no such device"));
        }
        self.down.remove(&shim.name);
        self.shims.insert(shim.name.clone(), shim.clone());
        Ok(())
    }

    pub(super) fn delete_inner(&mut self, netns: &Netns, ifname: &IfName) {
        self.links.retain(|_, link| link.netns.id != netns.id || link.ifname != *ifname);
    }

    pub(super) fn change_shim(
        &mut self,
        shim: &ShimLink,
        remove: &BTreeSet<IpAddr>,
        add: &BTreeSet<IpAddr>,
    ) -> Result<(), KernelError> {
        match self.shims.get_mut(&shim.name) {
            Some(there) => {
                there.routes.retain(|to| !remove.contains(to));
                there.routes.extend(add);
            }
            None if add.is_empty() => {}
            None => return Err(io("add a route over", &shim.name, "no such device")),
        }
        Ok(())
    }
}
