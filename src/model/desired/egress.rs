//! Which containers are held to what they may send, and on which networks they are.
//!
//! A container has one stance: deny, if that is its own on any of its networks or, where it has none of its own, that of the
//! network. Otherwise a way out over one network would be one around the other. What is allowed on any of them is allowed.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use rpds::RedBlackTreeMapSync as Map;

use super::{Attached, Desired};
use crate::model::egress::{Allowance, Stance};
use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;
use crate::model::network::Network;

/// How many containers have a stance, and how many of each network deny.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    stances: usize,
    denied: Map<NetworkName, usize>,
}

/// What a container may send.
#[derive(Debug, Clone)]
pub struct Restraint<'a> {
    /// Its stance.
    pub stance: Stance,
    endpoints: &'a [Arc<Endpoint>],
    networks: Vec<&'a Arc<Network>>,
}

impl<'a> Restraint<'a> {
    /// Of a container with these endpoints; `None` if nobody has said anything.
    pub fn of(desired: &'a Desired, endpoints: &'a [Arc<Endpoint>]) -> Option<Self> {
        let network = |endpoint: &Arc<Endpoint>| desired.network(&endpoint.network);
        let stances =
            endpoints.iter().filter_map(|endpoint| endpoint.egress.stance.or_else(|| network(endpoint)?.egress.stance));
        // Deny is the greater one.
        let stance = stances.max()?;
        Some(Self { stance, endpoints, networks: endpoints.iter().filter_map(network).collect() })
    }

    /// Whether only what is allowed passes.
    pub fn denies(&self) -> bool {
        self.stance == Stance::Deny
    }

    /// Everything that is allowed.
    pub fn allowances(&self) -> impl Iterator<Item = &Allowance> {
        let own = self.endpoints.iter().flat_map(|endpoint| &endpoint.egress.allow);
        own.chain(self.networks.iter().flat_map(|network| &network.egress.allow))
    }

    /// The container's addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().map(IpNetwork::ip))
    }

    /// The networks that it is on.
    pub fn networks(&self) -> &[&'a Arc<Network>] {
        &self.networks
    }
}

impl Desired {
    /// Whether any container has a stance.
    pub fn has_stances(&self) -> bool {
        self.held.stances > 0
    }

    /// Whether a container whose egress is denied is on the network.
    pub fn holds(&self, network: &NetworkName) -> bool {
        self.held.denied.contains_key(network)
    }

    /// The networks with containers whose egress is denied, by name.
    pub fn holding(&self) -> impl Iterator<Item = &NetworkName> {
        self.held.denied.keys()
    }

    /// What the container that holds the address may send; `None` if nobody has said anything.
    pub fn restraint_at(&self, address: IpAddr) -> Option<(&Arc<Attached>, Restraint<'_>)> {
        if !self.has_stances() {
            return None;
        }
        let attached = self.container_at(address)?;
        Some((attached, Restraint::of(self, &attached.endpoints)?))
    }

    /// Counts a container, before (`-1`) or after (`1`) a change of its endpoints.
    pub(super) fn count_held(&mut self, container: &crate::model::ids::ContainerId, by: isize) {
        let Some(attached) = self.containers.get(container).cloned() else { return };
        let Some(restraint) = Restraint::of(self, &attached.endpoints) else { return };
        let (denies, mut held) = (restraint.denies(), self.held.clone());
        held.stances = held.stances.saturating_add_signed(by);
        let networks = attached.endpoints.iter().map(|endpoint| &endpoint.network).filter(|_| denies);
        for network in networks {
            let count = held.denied.get(network).copied().unwrap_or_default().saturating_add_signed(by);
            if count == 0 {
                held.denied.remove_mut(network);
            } else {
                held.denied.insert_mut(network.clone(), count);
            }
        }
        self.held = held;
    }

    /// Counts anew: a network came or went that says something.
    pub(super) fn count_all_held(&mut self) {
        self.held = Held::default();
        let containers: Vec<_> = self.containers.keys().cloned().collect();
        containers.iter().for_each(|container| self.count_held(container, 1));
    }
}
