//! Views: which networks a client sees, in which order, and the holders of names there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use smallvec::SmallVec;

use super::suffixes;
use crate::model::desired::{Attached, Desired};
use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;
use crate::model::network::Network;
use crate::model::question::Client;

/// The holders of a name: mostly one or few, for which no memory is allocated.
pub(super) type Holders<'a> = SmallVec<[&'a Arc<Endpoint>; 4]>;

/// The client's view of desired state.
pub(super) struct View<'a> {
    pub(super) desired: &'a Desired,
    /// The container that is the client; `None`: the host.
    pub(super) client: Option<&'a Attached>,
    /// The client's networks, in the order in which it was connected to them; for the host, the network through whose
    /// gateway it asks, if any.
    own: SmallVec<[&'a Arc<Network>; 4]>,
}

impl<'a> View<'a> {
    /// The view of the client; `None` if netd does not serve it.
    pub(super) fn of(desired: &'a Desired, client: Client) -> Option<Self> {
        let source = match client {
            Client::Host => return Some(Self { desired, client: None, own: SmallVec::new() }),
            Client::Address(source) => source.to_canonical(),
        };
        let mut own = SmallVec::<[&Arc<Network>; 4]>::new();
        let Some(attached) = desired.container_at(source) else {
            own.push(desired.at_gateway(source)?);
            return Some(Self { desired, client: None, own });
        };
        for network in attached.endpoints.iter().filter_map(|endpoint| desired.network(&endpoint.network)) {
            // A runtime may attach a container to one network several times.
            if !own.iter().any(|known| known.name == network.name) {
                own.push(network);
            }
        }
        Some(Self { desired, client: Some(attached), own })
    }

    /// The visible networks: the client's own, and for the host also all others, by name.
    pub(super) fn networks(&self) -> impl Iterator<Item = &'a Arc<Network>> {
        let others = self.client.is_none().then(|| self.desired.networks()).into_iter().flatten();
        let others = others.filter(|other| !self.own.iter().any(|own| own.name == other.name));
        self.own.iter().copied().chain(others)
    }

    /// The visible network with that name (lower case), compared without case.
    pub(super) fn network(&self, name: &str) -> Option<&'a Arc<Network>> {
        self.desired.networks_called(name).iter().find(|network| self.sees(&network.name))
    }

    pub(super) fn sees(&self, network: &NetworkName) -> bool {
        self.client.is_none() || self.own.iter().any(|own| own.name == *network)
    }

    /// The holders of exactly this name: the container whose own name is before a dot and whose network is after it,
    /// else all holders on the visible networks, else those with an alias before the dot; shortest network name first.
    /// `None` if there are none.
    pub(super) fn exact(&self, name: &str) -> Option<Holders<'a>> {
        if let Some(found) = self.by_network(name) {
            return Some(found);
        }
        let whole = self.everywhere(name);
        if whole.is_empty() { self.split(name, |network, name| self.on(network, name)) } else { Some(whole) }
    }

    /// The holders of `NAME.NETWORK`: it denotes the container with that name, whatever names others have.
    pub(super) fn by_network(&self, name: &str) -> Option<Holders<'a>> {
        self.split(name, |network, name| {
            Some(self.on(network, name)).filter(|all| has_owner(all, name)).unwrap_or_default()
        })
    }

    /// Whether the name is a container's own on a visible network, in either form.
    pub(super) fn is_own(&self, name: &str) -> bool {
        has_owner(&self.everywhere(name), name) || self.by_network(name).is_some()
    }

    fn everywhere(&self, name: &str) -> Holders<'a> {
        // So that a question for a foreign name is not looked up on each network.
        if name.contains('.') && self.desired.dotted(name).is_empty() {
            return Holders::new();
        }
        self.networks().flat_map(|network| self.on(network, name)).collect()
    }

    fn on(&self, network: &Network, name: &str) -> Holders<'a> {
        self.of_scope(self.desired.named(&network.name, name), |endpoint| endpoint.is_whole_name(name))
    }

    /// The holders of a wildcard alias that covers this name, the longest such alias; in the same forms.
    pub(super) fn wild(&self, name: &str) -> Option<Holders<'a>> {
        if !self.desired.have_wildcards(self.networks().map(|network| &network.name)) {
            return None;
        }
        let below = |network: &Network, parent: &str| {
            let all = self.desired.named_below(&network.name, parent);
            self.of_scope(all, |endpoint| endpoint.is_whole_name(&format!("*.{parent}")))
        };
        let whole = suffixes(name).find_map(|parent| {
            let found: Holders<'_> = self.networks().flat_map(|network| below(network, parent)).collect();
            (!found.is_empty()).then_some(found)
        });
        let on = |network: &Network, name: &str| {
            suffixes(name).map(|parent| below(network, parent)).find(|found| !found.is_empty()).unwrap_or_default()
        };
        whole.or_else(|| self.split(name, on))
    }

    /// Whether there are names below this one, in the same forms.
    pub(super) fn is_above(&self, name: &str) -> bool {
        let on = |network: &Network, name: &str| self.desired.is_above_names(&network.name, name);
        let mut parts = name.rmatch_indices('.').map(|(dot, _)| (&name[..dot], &name[dot + 1..]));
        self.networks().any(|network| on(network, name))
            || parts.any(|(before, after)| self.network(after).is_some_and(|network| on(network, before)))
    }

    fn split(&self, name: &str, on: impl Fn(&Network, &str) -> Holders<'a>) -> Option<Holders<'a>> {
        name.rmatch_indices('.').find_map(|(dot, _)| {
            let holders = on(self.network(&name[dot + 1..])?, &name[..dot]);
            (!holders.is_empty()).then_some(holders)
        })
    }

    /// Selects the holders of a name that the client means. If containers have scopes, those in the client's own scope
    /// come first, then those with this whole name; a client without a scope also finds the others.
    fn of_scope(&self, all: &'a [Arc<Endpoint>], is_whole: impl Fn(&Endpoint) -> bool) -> Holders<'a> {
        if all.iter().all(|endpoint| endpoint.container.scope.is_none()) {
            return all.iter().collect();
        }
        let scope = self.client.and_then(|attached| attached.container.scope.as_ref());
        let own: Holders<'_> = all.iter().filter(|e| scope.is_some() && e.container.scope.as_ref() == scope).collect();
        if !own.is_empty() {
            return own;
        }
        let whole: Holders<'_> = all.iter().filter(|endpoint| is_whole(endpoint)).collect();
        if whole.is_empty() && scope.is_none() { all.iter().collect() } else { whole }
    }

    /// The addresses at which the client can reach the host: those of the bridge on the client's first network where
    /// the host has one. Internal networks have them too, though no route leads through them.
    pub(super) fn host(&self) -> Vec<IpAddr> {
        if let Some(attached) = self.client {
            let mut all = attached.endpoints.iter().filter_map(|e| Some((e, self.desired.network(&e.network)?)));
            let first = all.find(|(_, network)| network.has_gateways());
            let gateways = first.map(|(endpoint, network)| {
                endpoint.addresses.iter().filter_map(|address| network.gateway_for(address.ip())).collect()
            });
            return gateways.unwrap_or_else(|| self.host_beside(attached));
        }
        match self.own.first() {
            Some(network) => network.behind_gateways().collect(),
            None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        }
    }

    /// The host's addresses on the client's first network of stacked interfaces where it has some.
    fn host_beside(&self, attached: &Attached) -> Vec<IpAddr> {
        let networks = attached.endpoints.iter().filter_map(|endpoint| self.desired.network(&endpoint.network));
        let mut shims = networks.filter_map(|network| network.stacked()?.shim.as_ref());
        shims.next().map(|shim| shim.addresses.clone()).unwrap_or_default()
    }
}

/// Whether the name (lower case) is an own name of one of the holders, not an alias.
fn has_owner(holders: &[&Arc<Endpoint>], name: &str) -> bool {
    holders.iter().any(|endpoint| endpoint.is_own_name(name))
}
