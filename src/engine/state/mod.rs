//! The state that the engine's thread owns: desired state and the indices that decisions need.
//!
//! It changes through records only (`State::apply`), the same that the store commits; the functions behind it keep the
//! indices consistent with the desired state.

pub(super) mod agenda;
pub mod denied;
pub(super) mod foreign_tables;
pub(super) mod graces;
pub(super) mod instance;
pub(super) mod problems;
pub(super) mod published;
mod records;
pub mod snapshot;
pub(super) mod unexplained;
pub(super) mod ways;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::logic::alloc::interfaces;
use crate::logic::alloc::ipam::Ipam;
use crate::logic::alloc::ports::PortTable;
use crate::logic::alloc::sticky::Sticky;
use crate::logic::renumber::Moves;
use crate::logic::target;
use crate::logic::target::Blocked;
use crate::model::address::{Mac, Subnet};
use crate::model::desired::Desired;
use crate::model::endpoint::{Container, Endpoint, EndpointKey, Netns};
use crate::model::host::routing::TurnedOn;
use crate::model::ids::NetnsId;
use crate::model::names::{IfName, NetworkName, ReservationId, ServiceName};
use crate::model::network::Network;
use crate::model::publication::Publication;
use crate::model::reservation::{Holder, Reservation};
use crate::model::service::Service;
use crate::store::{Record, Stored};

/// The key of the random ULA prefix in the store.
const ULA_SETTING: &str = "ula-prefix";
/// The beginning of the keys of values that faces keep.
const KEPT: &str = "kept:";
/// The key of the networks that are served within their containers; the names are separated by spaces.
const BLOCKED_SETTING: &str = "dns-blocked";

/// The key of the last id that a policy got.
const RENUMBERING_SETTING: &str = "renumbering";
const POLICY_SETTING: &str = "last-policy";

/// Desired state with the indices for decisions.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) desired: Desired,
    pub(crate) ipam: Ipam,
    /// Invariant: sticky addresses that are not in use are released in `ipam`, so that they never count as unused.
    pub(crate) sticky: Sticky,
    pub(crate) ports: PortTable,
    /// Host interface to endpoint.
    pub(crate) host_ifnames: HashMap<IfName, EndpointKey>,
    /// The device that limits what an endpoint sends, to endpoint.
    pub(crate) limited: HashMap<IfName, EndpointKey>,
    /// Who has a MAC address on a network: one, except where another program assigns the addresses.
    pub(crate) macs: HashMap<(NetworkName, Mac), Vec<Holder>>,
    /// The endpoints in a namespace: those of one container, except where an earlier release took it for two.
    pub(crate) namespaces: HashMap<NetnsId, Vec<EndpointKey>>,
    /// Number of endpoints and reservations per network.
    pub(crate) used: BTreeMap<NetworkName, usize>,
    /// The last sequence number assigned.
    pub(crate) sequence: u64,
    /// The last id that a policy got; none gets it again.
    pub(crate) last_policy: u64,
    /// The network that has other subnets, while its interfaces have addresses of the former ones.
    pub(crate) renumbering: Option<(NetworkName, Moves)>,
    /// The identity of this daemon among others, which is in no backup.
    pub(crate) instance: String,
    /// The host's ULA /48, once drawn.
    pub(crate) ula: Option<Subnet>,
    /// Forwarding that netd turned on.
    pub(crate) turned_on: TurnedOn,
    /// Networks whose containers are served within their namespaces, because a firewall drops questions to their gateway.
    pub(crate) gateway_blocked: Arc<Blocked>,
    /// The kernel cannot hand packets to netd: no port can be strict.
    pub(crate) hands_nothing_over: bool,
    /// The host's addresses on the interfaces that networks are on, as they were when they were looked at last.
    pub(crate) host_addresses: BTreeSet<IpAddr>,
    /// What faces keep, by key.
    pub(crate) kept: Arc<BTreeMap<String, String>>,
}

impl State {
    /// Builds the state from the store. Endpoints and reservations of networks that no longer exist are left out.
    pub(crate) fn from_stored(stored: Stored) -> Self {
        let mut state = Self { turned_on: stored.turned_on, ..Self::default() };
        for (key, value) in &stored.settings {
            state.set(key, value);
        }
        for network in stored.networks {
            state.put_network(network);
        }
        for (network, address, order) in stored.released {
            state.ipam.release(&network, address, order);
        }
        for policy in stored.policies {
            state.desired.insert_policy(policy);
        }
        for service in stored.services {
            state.put_service(service);
        }
        for condition in stored.conditions {
            state.desired.insert_condition(condition);
        }
        for mut endpoint in stored.endpoints {
            if let Some(network) = state.desired.network(&endpoint.network) {
                // Earlier releases did not note it. Those that were not told are answered within nevertheless.
                endpoint.told_inside |= target::is_told_inside(network, &state.gateway_blocked);
                state.put_endpoint(endpoint);
            }
        }
        for reservation in stored.reservations {
            if state.desired.network(&reservation.network).is_some() {
                state.put_reservation(reservation);
            }
        }
        let mut sticky = BTreeSet::new();
        for (network, address, name) in stored.sticky {
            if state.desired.network(&network).is_some_and(|network| network.sticky) {
                state.sticky.keep(&network, address, &name);
                sticky.insert(network);
            }
        }
        sticky.iter().for_each(|network| state.release_kept(network));
        state
    }

    /// Counts the sticky addresses of a network as released, those first, except those that are in use.
    pub(crate) fn release_kept(&mut self, network: &NetworkName) {
        let kept: Vec<IpAddr> = self.sticky.of_network(network).collect();
        for address in kept {
            if !self.is_held(address) && self.ipam.released(network, address).is_none() {
                self.ipam.release(network, address, 0);
            }
        }
    }

    /// The record of the host's ULA prefix.
    pub(crate) fn ula_record(prefix: Subnet) -> Record {
        Record::PutSetting(ULA_SETTING.into(), prefix.to_string())
    }

    /// The record of the last id that a policy got.
    pub(crate) fn policy_record(last: u64) -> Record {
        Record::PutSetting(POLICY_SETTING.into(), last.to_string())
    }

    /// The record of a network that moves to other subnets.
    pub(crate) fn renumbering_record(moving: Option<(&NetworkName, &Moves)>) -> Record {
        let text = moving.map(|(network, moves)| format!("{network} {moves}")).unwrap_or_default();
        Record::PutSetting(RENUMBERING_SETTING.into(), text)
    }

    /// The record of the networks that are served within their containers.
    pub(crate) fn blocked_record(gateway_blocked: &Blocked) -> Record {
        let names: Vec<&str> = gateway_blocked.iter().map(NetworkName::as_str).collect();
        Record::PutSetting(BLOCKED_SETTING.into(), names.join(" "))
    }

    /// The record of a value that a face keeps.
    pub(crate) fn kept_record(key: &str, value: String) -> Record {
        Record::PutSetting(format!("{KEPT}{key}"), value)
    }

    /// Carries out committed records. The state is always what a start would load from the store.
    pub(crate) fn apply(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::PutNetwork(network) => self.put_network(network.as_ref().clone()),
                Record::DeleteNetwork(name) => self.drop_network(name),
                Record::PutEndpoint(endpoint) => self.put_endpoint(endpoint.as_ref().clone()),
                Record::DeleteEndpoint(key) => self.drop_endpoint(key),
                Record::PutService(service) => self.put_service(service.as_ref().clone()),
                Record::DeleteService(name) => self.drop_service(name),
                Record::PutPolicy(policy) => self.desired.insert_policy(policy.clone()),
                Record::DeletePolicy(id) => self.desired.remove_policy(*id),
                Record::PutCondition(condition) => self.desired.insert_condition(condition.as_ref().clone()),
                Record::DeleteCondition(container) => self.desired.remove_condition(container),
                Record::PutReservation(reservation) => self.put_reservation(reservation.as_ref().clone()),
                Record::DeleteReservation(id) => self.drop_reservation(id),
                Record::PutReleased(network, address, order) => self.ipam.release(network, *address, *order),
                Record::DeleteReleased(network, address) => self.ipam.take(network, *address),
                Record::PutSticky(network, address, name) => drop(self.sticky.keep(network, *address, name)),
                Record::DeleteSticky(network, address) => self.sticky.forget(network, *address),
                Record::PutTurnedOn(turned_on) => self.turned_on = turned_on.clone(),
                Record::PutSetting(key, value) => self.set(key, value),
            }
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            ULA_SETTING => self.ula = value.parse().ok(),
            RENUMBERING_SETTING => {
                self.renumbering =
                    value.split_once(' ').and_then(|(name, moves)| Some((name.parse().ok()?, moves.parse().ok()?)));
            }
            POLICY_SETTING => self.last_policy = value.parse().unwrap_or_default(),
            BLOCKED_SETTING => {
                self.gateway_blocked = Arc::new(value.split(' ').filter_map(|name| name.parse().ok()).collect());
            }
            _ => {
                if let Some(key) = key.strip_prefix(KEPT) {
                    Arc::make_mut(&mut self.kept).insert(key.to_owned(), value.to_owned());
                }
            }
        }
    }

    fn put_network(&mut self, network: Network) {
        // One that only has other settings keeps its released addresses.
        if self.desired.network(&network.name).is_none_or(|known| known.subnets != network.subnets) {
            self.ipam.add_network(&network);
        }
        self.desired.insert_network(network);
    }

    fn drop_network(&mut self, name: &NetworkName) {
        self.sticky.remove_network(name);
        if let Some(network) = self.desired.remove_network(name) {
            self.ipam.remove_network(&network);
        }
    }

    fn put_endpoint(&mut self, endpoint: Endpoint) {
        let key = endpoint.key();
        self.drop_endpoint(&key);
        self.hold(&endpoint.network, (&endpoint.addresses, endpoint.mac, &endpoint.publications), &holder(&key));
        if let Some(learned) = endpoint.learned_mac {
            self.macs.entry((endpoint.network.clone(), learned)).or_default().push(holder(&key));
        }
        if endpoint.bandwidth.is_some_and(|bandwidth| bandwidth.egress.is_some()) {
            self.limited.insert(interfaces::limiter(&endpoint.host_ifname), key.clone());
        }
        // The host's namespace is nobody's.
        if !endpoint.has_no_namespace() {
            self.namespaces.entry(endpoint.container.netns.id).or_default().push(key.clone());
        }
        self.host_ifnames.insert(endpoint.host_ifname.clone(), key);
        self.sequence = self.sequence.max(endpoint.sequence);
        self.desired.insert_endpoint(endpoint);
    }

    fn drop_endpoint(&mut self, key: &EndpointKey) {
        let Some(endpoint) = self.desired.remove_endpoint(key) else { return };
        self.unhold(&endpoint.network, (endpoint.mac, &endpoint.publications), &holder(key));
        if let Some(learned) = endpoint.learned_mac {
            forget(&mut self.macs, &(endpoint.network.clone(), learned), &holder(key));
        }
        for (index, name) in [
            (&mut self.host_ifnames, &endpoint.host_ifname),
            (&mut self.limited, &interfaces::limiter(&endpoint.host_ifname)),
        ] {
            // Another program may have reused the name.
            if index.get(name) == Some(key) {
                index.remove(name);
            }
        }
        forget(&mut self.namespaces, &endpoint.container.netns.id, key);
    }

    fn put_reservation(&mut self, reservation: Reservation) {
        self.drop_reservation(&reservation.id);
        let holder = Holder::Reservation(reservation.id.clone());
        let Reservation { network, addresses, mac, publications, .. } = &reservation;
        self.hold(network, (addresses, *mac, publications), &holder);
        self.desired.insert_reservation(reservation);
    }

    fn put_service(&mut self, service: Service) {
        self.drop_service(&service.name.clone());
        let holder = Holder::Service(service.name.clone());
        for on in &service.networks {
            on.addresses.iter().for_each(|address| self.ipam.take(&on.network, *address));
        }
        service.publications.iter().for_each(|publication| self.ports.insert(publication, &holder));
        self.desired.insert_service(service);
    }

    fn drop_service(&mut self, name: &ServiceName) {
        let Some(service) = self.desired.service(name).filter(|service| service.is_defined()).cloned() else { return };
        let holder = Holder::Service(name.clone());
        self.desired.remove_service(name);
        service.publications.iter().for_each(|publication| self.ports.remove(publication, &holder));
    }

    fn drop_reservation(&mut self, id: &ReservationId) {
        let Some(reservation) = self.desired.remove_reservation(id) else { return };
        let holder = Holder::Reservation(id.clone());
        self.unhold(&reservation.network, (reservation.mac, &reservation.publications), &holder);
    }

    /// Enters what an endpoint or a reservation has into the indices.
    fn hold(
        &mut self,
        network: &NetworkName,
        (addresses, mac, publications): (&[IpNetwork], Mac, &[Publication]),
        holder: &Holder,
    ) {
        for address in addresses {
            self.ipam.take(network, address.ip());
        }
        for publication in publications {
            self.ports.insert(publication, holder);
        }
        self.macs.entry((network.clone(), mac)).or_default().push(holder.clone());
        *self.used.entry(network.clone()).or_default() += 1;
    }

    fn unhold(&mut self, network: &NetworkName, (mac, publications): (Mac, &[Publication]), holder: &Holder) {
        for publication in publications {
            self.ports.remove(publication, holder);
        }
        forget(&mut self.macs, &(network.clone(), mac), holder);
        if let Some(used) = self.used.get_mut(network) {
            *used -= 1;
            if *used == 0 {
                self.used.remove(network);
            }
        }
    }

    /// Whether an endpoint, a reservation or a defined service is on the network.
    pub(crate) fn is_used(&self, network: &NetworkName) -> bool {
        self.used.contains_key(network) || self.desired.services_of(network).any(|service| service.is_defined())
    }

    /// Whether an endpoint, a reservation or a service has the address.
    pub(crate) fn is_held(&self, address: IpAddr) -> bool {
        self.desired.at_address(address).is_some()
            || self.desired.reserved_at(address).is_some()
            || self.desired.service_at(address).is_some()
    }

    /// The container that has a namespace; the first one if there are two.
    pub(crate) fn container_in(&self, netns: &Netns) -> Option<&Container> {
        let endpoints = self.namespaces.get(&netns.id)?.iter().filter_map(|key| self.desired.endpoint(key));
        endpoints.min_by_key(|endpoint| endpoint.sequence).map(|endpoint| &endpoint.container)
    }

    /// The endpoints of a container, in the order in which they were connected.
    pub(crate) fn endpoints_of(&self, container: &crate::model::ids::ContainerId) -> Vec<Arc<Endpoint>> {
        self.desired.container(container).map(|attached| attached.endpoints.clone()).unwrap_or_default()
    }
}

fn holder(key: &EndpointKey) -> Holder {
    Holder::Endpoint(key.clone())
}

/// Removes a holder from an index.
fn forget<T: Eq + std::hash::Hash, H: Eq>(index: &mut HashMap<T, Vec<H>>, of: &T, gone: &H) {
    if let Some(holders) = index.get_mut(of) {
        holders.retain(|holder| holder != gone);
        if holders.is_empty() {
            index.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;

    /// Files that an earlier release wrote are read by these keys.
    #[test]
    fn settings_keep_their_keys() {
        let settings = [("dns-blocked", "net1 net2"), ("ula-prefix", "fd12:3456:789a::/48")];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let state = State::from_stored(Stored { settings, ..Stored::default() });
        let blocked: Vec<&str> = state.gateway_blocked.iter().map(NetworkName::as_str).collect();
        assert_eq!(blocked, ["net1", "net2"]);
        assert_eq!(state.ula.map(|prefix| prefix.to_string()).as_deref(), Some("fd12:3456:789a::/48"));
    }

    /// Earlier releases noted the networks only.
    #[test]
    fn containers_of_a_blocked_network_were_told_to_ask_within() {
        let networks = [samples::network("net1", &["10.0.1.0/24"]), samples::network("net2", &["10.0.2.0/24"])];
        let endpoints = [(0, "10.0.1.2"), (1, "10.0.2.2")]
            .map(|(network, address)| samples::endpoint(&networks[network], "web", 1, &[address], &[]));
        let settings = [("dns-blocked".to_owned(), "net1".to_owned())].into();
        let stored = Stored { networks: networks.into(), endpoints: endpoints.into(), settings, ..Stored::default() };
        let state = State::from_stored(stored);
        let told = state.desired.endpoints().map(|endpoint| (endpoint.network.as_str(), endpoint.told_inside));
        assert_eq!(told.collect::<Vec<_>>(), [("net1", true), ("net2", false)]);
    }
}
