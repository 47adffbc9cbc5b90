//! The reference model of the random sequences.

use std::collections::{BTreeMap, BTreeSet};

use super::{AttachChoice, NETWORKS, services, sticky};

/// Networks, their containers and services. It alone determines the outcome of a command.
#[derive(Debug, Clone, Default)]
pub(super) struct Reference {
    pub(super) networks: BTreeSet<&'static str>,
    /// (container, network) to (port, requested static address).
    pub(super) endpoints: BTreeMap<(usize, usize), (Option<usize>, Option<u8>)>,
    /// On the network that keeps addresses.
    pub(super) kept: sticky::Kept,
    /// (pod, network) to what was asked for, and whether it has its address.
    pub(super) attachments: BTreeMap<(usize, usize), (AttachChoice, bool)>,
    /// Reservation to (network, port).
    pub(super) reservations: BTreeMap<usize, (usize, Option<usize>)>,
    pub(super) services: BTreeMap<usize, services::Asked>,
    /// Drained containers.
    pub(super) drained: BTreeSet<usize>,
}

impl Reference {
    /// Whether another container or a reservation has the port; a pod may request its own port for its other network as
    /// well.
    pub(super) fn ports_collide(&self, asked: usize, of_pod: Option<usize>) -> bool {
        // 4000:80 and the range share 4000; the range and 127.0.0.1:4001 share 4001.
        let collides = |held: usize| held == asked || held == 1 || asked == 1;
        let same = |pod: usize, port: Option<usize>| Some(pod) == of_pod && port == Some(asked);
        let attached = self.attachments.iter().map(|((pod, _), (requested, _))| (*pod, requested.port));
        let attached = attached.filter(|(pod, port)| !same(*pod, *port)).map(|(_, port)| port);
        let reserved = self.reservations.values().map(|(_, port)| *port);
        let of_services = self.services.values().map(|service| service.port);
        let by_hand = self.endpoints.values().map(|(port, _)| *port);
        by_hand.chain(attached).chain(reserved).chain(of_services).flatten().any(collides)
    }

    /// The number of containers, reservations and services on the network, and of used addresses.
    pub(super) fn used(&self, network: &str) -> (usize, usize) {
        let by_hand = self.endpoints.keys().filter(|(_, on)| NETWORKS[*on] == network).count();
        let by_hand = by_hand + self.reservations.values().filter(|(on, _)| NETWORKS[*on] == network).count();
        let on_it = self.attachments.iter().filter(|((_, on), (requested, _))| requested.network(*on) == network);
        let (all, addressed): (Vec<bool>, usize) = on_it.fold((Vec::new(), 0), |(mut all, n), (_, (_, has))| {
            all.push(*has);
            (all, n + usize::from(*has))
        });
        let on_it = self.services.values().filter(|service| service.is_on(network)).count();
        let virtual_addresses = self.services.values().filter(|service| service.has_address(network)).count();
        (by_hand + all.len() + on_it, by_hand + addressed + virtual_addresses)
    }

    /// What was said of a container ends with its last endpoint.
    pub(super) fn forget_conditions(&mut self) {
        let Self { drained, endpoints, .. } = self;
        drained.retain(|container| endpoints.keys().any(|(other, _)| other == container));
    }
}
