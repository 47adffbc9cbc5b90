//! What a user sees of networks, endpoints, reservations, services and policies, without what is drawn at random.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netd::engine::Snapshot;
use netd::model::endpoint::Endpoint;
use netd::model::names::NetworkName;
use netd::model::network::Network;
use netd::model::policy::Policy;
use netd::model::reservation::Reservation;
use netd::model::service::{Service, ServiceNetwork};
use netd::store::Stored;

/// A network; or an endpoint: network, container, and interface; or a reservation: network, its id, and nothing; or a
/// service: nothing, its name, and nothing; or a member: network, service, and container; or a policy: nothing, and what
/// it says.
type Name = (String, Option<(String, String)>);

/// What an object has: what was asked for, and what was assigned.
type Content = (String, String);

/// Networks, endpoints, reservations, services, members and policies by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View(BTreeMap<Name, Content>);

impl View {
    pub(crate) fn of_snapshot(snapshot: &Snapshot) -> Self {
        let desired = &snapshot.desired;
        let networks = desired.networks().map(|other| network(other));
        let reservations = desired.reservations().map(|other| reservation(other));
        let services = desired.services().map(|other| service(other));
        let members = desired.services().flat_map(|of| {
            desired.members(of).map(|member| {
                let place = Some((of.name.to_string(), member.endpoint.container.name.to_string()));
                ((member.endpoint.network.to_string(), place), (format!("{:?}", member.standing.state), String::new()))
            })
        });
        let endpoints = desired.endpoints().map(|other| endpoint(other));
        let policies = desired.policies().map(|other| policy(other));
        let all = networks.chain(endpoints).chain(reservations).chain(services).chain(members).chain(policies);
        Self(all.collect())
    }

    /// Endpoints and reservations of networks that no longer exist do not count.
    pub(crate) fn of_store(stored: &Stored) -> Self {
        let is_there = |name: &NetworkName| stored.networks.iter().any(|network| network.name == *name);
        let endpoints = stored.endpoints.iter().filter(|endpoint| is_there(&endpoint.network)).map(endpoint);
        let reservations = stored.reservations.iter().filter(|other| is_there(&other.network)).map(reservation);
        let policies = stored.policies.iter().map(policy);
        Self(stored.networks.iter().map(network).chain(endpoints).chain(reservations).chain(policies).collect())
    }

    /// Why this is not the other; nothing if it is.
    pub(crate) fn differs(&self, other: &Self) -> Vec<String> {
        self.not_one_of(other, other)
    }

    /// Like [`Self::differs`], whichever addresses were assigned.
    pub(crate) fn differs_in_kind(&self, other: &Self) -> Vec<String> {
        let kind = |view: &Self| {
            Self(view.0.iter().map(|(k, (asked, _))| (k.clone(), (asked.clone(), String::new()))).collect())
        };
        kind(self).differs(&kind(other))
    }

    /// The objects that are there, and neither as before nor as after; nothing if there are none.
    pub(crate) fn not_one_of_or_gone(&self, before: &Self, after: &Self) -> Vec<String> {
        let there = |view: &Self| {
            Self(view.0.iter().filter(|(k, _)| self.0.contains_key(*k)).map(|(k, v)| (k.clone(), v.clone())).collect())
        };
        self.not_one_of(&there(before), &there(after))
    }

    /// The objects that are neither as before nor as after; nothing if there are none.
    pub(crate) fn not_one_of(&self, before: &Self, after: &Self) -> Vec<String> {
        let mut names: Vec<&Name> = self.0.keys().chain(before.0.keys()).chain(after.0.keys()).collect();
        names.sort();
        names.dedup();
        let wrong = names.into_iter().filter(|name| {
            let now = self.0.get(*name);
            now != before.0.get(*name) && now != after.0.get(*name)
        });
        wrong.map(|name| format!("{name:?}: {:?}, not {:?}", self.0.get(name), after.0.get(name))).collect()
    }
}

/// Its number is not given again, so it is another one where the policy was removed in between.
fn policy(policy: &Policy) -> (Name, Content) {
    ((String::new(), Some(("policy".to_owned(), policy.rule.to_string()))), Content::default())
}

fn network(network: &Network) -> (Name, Content) {
    let Network { name, driver, subnets, internal, mtu, labels, dns, host_access, sticky, egress, .. } = network;
    let subnets: Vec<_> = subnets.iter().map(|s| (drawn(s.subnet.network()), s.gateway.map(drawn))).collect();
    let asked = format!("{driver:?} {internal} {mtu} {labels:?} {dns:?} {host_access:?} {sticky} {egress:?}");
    ((name.to_string(), None), (asked, format!("{subnets:?}")))
}

fn endpoint(endpoint: &Endpoint) -> (Name, Content) {
    let Endpoint { network, container, ifname, host_ifname, aliases, publications, skipped, owner, .. } = endpoint;
    let inode = container.netns.id.inode;
    let asked = format!(
        "{host_ifname} {aliases:?} {publications:?} {skipped:?} {owner:?} {inode} {:?} {:?} {}",
        endpoint.routes,
        endpoint.bandwidth,
        endpoint.addresses.len()
    );
    let addresses: Vec<_> = endpoint.addresses.iter().map(|address| drawn(address.ip())).collect();
    let gateways: Vec<_> = endpoint.gateways.iter().map(|gateway| drawn(*gateway)).collect();
    let place = Some((container.name.to_string(), ifname.to_string()));
    ((network.to_string(), place), (asked, format!("{addresses:?} {gateways:?}")))
}

fn reservation(reservation: &Reservation) -> (Name, Content) {
    let Reservation { id, network, addresses, mac, publications, .. } = reservation;
    let addresses: Vec<_> = addresses.iter().map(|address| drawn(address.ip())).collect();
    let name = (network.to_string(), Some((id.to_string(), String::new())));
    (name, (format!("{publications:?} {}", addresses.len()), format!("{addresses:?} {mac}")))
}

fn service(service: &Service) -> (Name, Content) {
    let Service { name, networks, mode, publications, members, select, .. } = service;
    let asked = format!("{mode:?} {publications:?} {members:?} {select:?} {}", service.version);
    let on = |on: &ServiceNetwork| (on.network.clone(), on.addresses.iter().copied().map(drawn).collect::<Vec<_>>());
    let at: Vec<_> = networks.iter().map(on).collect();
    ((String::new(), Some((name.to_string(), String::new()))), (asked, format!("{at:?}")))
}

/// Without the random part of a unique local address.
fn drawn(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) if six.octets()[0] == 0xfd => {
            let mut octets = six.octets();
            octets[1..6].fill(0);
            octets.into()
        }
        other => other,
    }
}
