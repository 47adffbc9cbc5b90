//! Names of services that stand for several containers: `web` for the members that are used, or the virtual address;
//! `all.web` and `tasks.web` for all members.
//!
//! The name of a service takes precedence over names of containers, and those over the aliases of services; aliases of
//! containers come last, because Compose gives every replica of a service its name as an alias.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::view::{Holders, View};
use super::{addresses, data};
use crate::logic::target::services::used;
use crate::model::desired::Desired;
use crate::model::endpoint::Endpoint;
use crate::model::network::Network;
use crate::model::question::{Answer, RecordType};
use crate::model::service::{Service, ServiceNetwork};

/// The names below a service's that stand for all of its members. Docker's is `tasks`.
const ALL: [&str; 2] = ["all.", "tasks."];

/// A service that a name denotes, on one network.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) on: &'a ServiceNetwork,
    /// All members are meant.
    all: bool,
}

/// The services that a name denotes: one on each of their networks that the client sees.
pub(super) type Services<'a> = SmallVec<[Found<'a>; 2]>;

/// The services that a name (lower case) denotes, if it is not a container's own name before that.
pub(super) fn find<'a>(view: &View<'a>, name: &str) -> Option<Services<'a>> {
    if view.desired.services().len() == 0 {
        return None;
    }
    let found = search(view, name, false).or_else(|| {
        let below = ALL.iter().find_map(|all| name.strip_prefix(all))?;
        search(view, below, true)
    })?;
    let is_named = found.iter().any(|found| {
        let own = found.service.name.as_str();
        name.split('.').any(|label| label.eq_ignore_ascii_case(own)) || name.eq_ignore_ascii_case(own)
    });
    (is_named || !view.is_own(name)).then_some(found)
}

/// The services with this name on any visible network, else `NAME.NETWORK`.
fn search<'a>(view: &View<'a>, name: &str, all: bool) -> Option<Services<'a>> {
    let whole: Services<'a> = view.networks().flat_map(|network| named(view.desired, network, name, all)).collect();
    if !whole.is_empty() {
        return Some(whole);
    }
    name.rmatch_indices('.').find_map(|(dot, _)| {
        let network = view.network(&name[dot + 1..])?;
        let found: Services<'a> = named(view.desired, network, &name[..dot], all).collect();
        (!found.is_empty()).then_some(found)
    })
}

fn named<'a>(
    desired: &'a Desired,
    network: &'a Network,
    name: &str,
    all: bool,
) -> impl Iterator<Item = Found<'a>> + use<'a> {
    let services: SmallVec<[&Arc<Service>; 2]> = desired.services_named(&network.name, name).collect();
    services.into_iter().filter_map(move |service| Some(Found { service, on: service.on(&network.name)?, all }))
}

/// The records of the services.
pub(super) fn answer<'a>(view: &View<'a>, found: &Services<'a>, kind: RecordType) -> Answer {
    if kind == RecordType::Txt || found.iter().all(|found| !found.is_virtual()) {
        return data(&holders(view, found), kind);
    }
    let virtual_addresses = found.iter().filter(|found| found.is_virtual()).flat_map(|found| &found.on.addresses);
    let rest: Services<'a> = found.iter().filter(|found| !found.is_virtual()).copied().collect();
    let others = holders(view, &rest);
    let others = others.iter().flat_map(|endpoint| endpoint.addresses.iter().map(ipnetwork::IpNetwork::ip));
    addresses(virtual_addresses.copied().chain(others), kind)
}

/// The endpoints that the services stand for: the members that are used, and the client itself, which always finds itself.
pub(super) fn holders<'a>(view: &View<'a>, found: &Services<'a>) -> Holders<'a> {
    found.iter().flat_map(|found| found.holders(view)).collect()
}

impl<'a> Found<'a> {
    /// Whether the name stands for a virtual address.
    pub(super) fn is_virtual(&self) -> bool {
        !self.all && !self.on.addresses.is_empty()
    }

    /// Its virtual addresses on this network.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.on.addresses.clone()
    }

    /// The endpoints that it stands for on this network.
    pub(super) fn holders(&self, view: &View<'a>) -> Vec<&'a Arc<Endpoint>> {
        let here = |endpoint: &&Arc<Endpoint>| endpoint.network == self.on.network;
        let members = || view.desired.members(self.service).map(|member| member.endpoint);
        if self.all {
            return members().filter(here).collect();
        }
        let mut holders: Vec<_> = used(view.desired, self.service).into_iter().filter(here).collect();
        if let Some(client) = view.client {
            let own = members().filter(here).filter(|member| member.container.id == client.container.id);
            let missing: Vec<_> = own.filter(|own| !holders.iter().any(|holder| Arc::ptr_eq(holder, own))).collect();
            holders.extend(missing);
        }
        holders
    }
}
