//! The DNS zone: a question and its asker to an answer, from desired state alone.
//!
//! Names that are ours: those under the domain, those of one label, those that end in the name of one of our networks,
//! those that a container on a shared network has, and the reverse names of our subnets. They are answered here and
//! never leave the host; everything else is forwarded.

mod reverse;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::model::desired::{Attached, Desired};
use crate::model::endpoint::Endpoint;
use crate::model::network::Network;
use crate::model::question::{Answer, Asker, RecordType};

/// Names under which Docker's and Podman's users know the host, whatever the domain is.
const HOST_ALIASES: [&str; 2] = ["host.docker.internal", "host.containers.internal"];
/// The names between [`HOST_ALIASES`] and the root: they exist, or a resolver that follows RFC 8020 would conclude from
/// their absence that nothing lies below them.
const ABOVE_HOST_ALIASES: [&str; 3] = ["docker.internal", "containers.internal", "internal"];
/// RFC 6761, 6.3: it and everything below it is the asker's own loopback.
const LOCALHOST: &str = "localhost";

/// What the zone under `domain` ("internal") answers the asker for `name` (without the final dot, any case).
pub fn answer(desired: &Desired, domain: &str, asker: Asker, name: &str, kind: RecordType) -> Answer {
    let Some(view) = View::of(desired, asker) else {
        return Answer::Refused;
    };
    let name = name.to_ascii_lowercase();
    let domain = domain.trim_matches('.').to_ascii_lowercase();
    if let Some(answer) = reverse::answer(&view, &domain, &name, kind) {
        return answer;
    }
    if is_at_or_under(&name, LOCALHOST) {
        return addresses([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into_iter(), kind);
    }
    if HOST_ALIASES.contains(&name.as_str()) || inside(&name, &domain) == Some("host") {
        return addresses(view.host().into_iter(), kind);
    }
    forward_zone(&view, &domain, &name, kind)
}

/// Whether names that are not ours may be asked for upstream: not by a container that is on internal networks only.
pub fn may_forward(desired: &Desired, asker: Asker) -> bool {
    View::of(desired, asker)
        .is_some_and(|view| view.asker.is_none() || view.networks.iter().any(|network| !network.internal))
}

fn forward_zone(view: &View<'_>, domain: &str, name: &str, kind: RecordType) -> Answer {
    let inner = inside(name, domain);
    let found = view.find(name).or_else(|| view.find(inner?));
    if let Some(endpoints) = found {
        let all = endpoints.into_iter().flat_map(|endpoint| endpoint.addresses.iter().map(IpNetwork::ip));
        return addresses(all, kind);
    }
    let short = inner.unwrap_or(name);
    if name == domain || view.network(short).is_some() || ABOVE_HOST_ALIASES.contains(&name) {
        // An apex exists, and has none of the types that are asked for here.
        return Answer::NoData;
    }
    let ours = inner.is_some()
        || !(name.is_empty() || name.contains('.'))
        || suffixes(name).any(|suffix| any_network(view.desired, suffix))
        || any_network(view.desired, name);
    if ours { Answer::NxDomain } else { Answer::Forward }
}

/// What an asker sees.
struct View<'a> {
    desired: &'a Desired,
    /// The container that asks; `None`: the host.
    asker: Option<&'a Attached>,
    /// In the order in which the asker was connected to them; for the host the one it asks through, then by name.
    networks: Vec<&'a Arc<Network>>,
    /// Whether the host asks through a gateway, the first network's.
    through_gateway: bool,
}

impl<'a> View<'a> {
    /// `None`: nobody we serve.
    fn of(desired: &'a Desired, asker: Asker) -> Option<Self> {
        let host = |first: Option<&'a Arc<Network>>| {
            let others = desired.networks().filter(|other| first.is_none_or(|first| first.name != other.name));
            let networks = first.into_iter().chain(others).collect();
            Some(Self { desired, asker: None, networks, through_gateway: first.is_some() })
        };
        let source = match asker {
            Asker::Host => return host(None),
            Asker::Address(source) => source.to_canonical(),
        };
        let Some(endpoint) = desired.at_address(source) else {
            return host(Some(desired.at_gateway(source)?));
        };
        let attached = desired.container(&endpoint.container.id)?;
        let mut networks: Vec<&Arc<Network>> = Vec::new();
        for network in attached.endpoints.iter().filter_map(|endpoint| desired.network(&endpoint.network)) {
            // A runtime may attach a container to one network several times.
            if !networks.iter().any(|known| known.name == network.name) {
                networks.push(network);
            }
        }
        Some(Self { desired, asker: Some(attached), networks, through_gateway: false })
    }

    /// The visible network of that name, without case.
    fn network(&self, name: &str) -> Option<&'a Arc<Network>> {
        self.networks.iter().copied().find(|network| network.name.as_str().eq_ignore_ascii_case(name))
    }

    fn sees(&self, network: &Network) -> bool {
        self.networks.iter().any(|visible| visible.name == network.name)
    }

    /// Who has the name: as it stands on every visible network, else the part before a dot on the network that the
    /// part after it names, shortest network name first. `None`: nobody.
    fn find(&self, name: &str) -> Option<Vec<&'a Arc<Endpoint>>> {
        let whole: Vec<_> = self.networks.iter().flat_map(|network| self.holders(network, name)).collect();
        if !whole.is_empty() {
            return Some(whole);
        }
        name.rmatch_indices('.').find_map(|(dot, _)| {
            let network = self.network(&name[dot + 1..])?;
            let holders = self.holders(network, &name[..dot]);
            (!holders.is_empty()).then_some(holders)
        })
    }

    /// Who has the name on the network. Where containers have scopes, those of the asker's own come first, then those
    /// whose whole name it is; an asker without a scope finds the others too.
    fn holders(&self, network: &Network, name: &str) -> Vec<&'a Arc<Endpoint>> {
        let all = self.desired.named(&network.name, name);
        if all.iter().all(|endpoint| endpoint.container.scope.is_none()) {
            return all.iter().collect();
        }
        let scope = self.asker.and_then(|attached| attached.container.scope.as_ref());
        let own: Vec<_> = all.iter().filter(|e| scope.is_some() && e.container.scope.as_ref() == scope).collect();
        if !own.is_empty() {
            return own;
        }
        let whole: Vec<_> = all.iter().filter(|endpoint| endpoint.is_whole_name(name)).collect();
        if whole.is_empty() && scope.is_none() { all.iter().collect() } else { whole }
    }

    /// The addresses at which the asker reaches the host: the bridge's on its first network. Internal networks have
    /// them too, though no route leads through them.
    fn host(&self) -> Vec<IpAddr> {
        if let Some(attached) = self.asker {
            let first = attached.endpoints.first().zip(self.networks.first());
            let gateways = first.map(|(endpoint, network)| {
                endpoint.addresses.iter().filter_map(|address| network.gateway_for(address.ip())).collect()
            });
            return gateways.unwrap_or_default();
        }
        match self.networks.first().filter(|_| self.through_gateway) {
            Some(network) => network.subnets.iter().map(|subnet| subnet.gateway).collect(),
            None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        }
    }
}

/// The addresses of the type asked for, each once, in their order.
fn addresses(all: impl Iterator<Item = IpAddr>, kind: RecordType) -> Answer {
    fn unique<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
        all.fold(Vec::new(), |mut list, one| {
            if !list.contains(&one) {
                list.push(one);
            }
            list
        })
    }
    match kind {
        RecordType::A => {
            let v4 = unique(all.filter_map(|ip| if let IpAddr::V4(v4) = ip { Some(v4) } else { None }));
            if v4.is_empty() { Answer::NoData } else { Answer::A(v4) }
        }
        RecordType::Aaaa => {
            let v6 = unique(all.filter_map(|ip| if let IpAddr::V6(v6) = ip { Some(v6) } else { None }));
            if v6.is_empty() { Answer::NoData } else { Answer::Aaaa(v6) }
        }
        RecordType::Ptr | RecordType::Other => Answer::NoData,
    }
}

/// What stands before `.domain`; `None` when the name is not below it.
fn inside<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    name.strip_suffix(domain)?.strip_suffix('.').filter(|_| !domain.is_empty())
}

fn is_at_or_under(name: &str, domain: &str) -> bool {
    name == domain || inside(name, domain).is_some()
}

/// Everything that stands after a dot of the name.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(dot, _)| &name[dot + 1..])
}

/// Whether any network, seen or not, has the name.
fn any_network(desired: &Desired, name: &str) -> bool {
    desired.networks().any(|network| network.name.as_str().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
