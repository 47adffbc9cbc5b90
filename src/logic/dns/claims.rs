//! Claims: names that cannot be given to a container because they have another meaning in DNS.
//!
//! Some names denote the host, the client's own loopback, or addresses ([`reserved`]). `NAME.NETWORK`, with or without
//! the domain, is the container with that name on that network ([`owner`]); another container with a name or alias of
//! that form loses it ([`lost`]).

use std::sync::Arc;

use super::{LOCALHOST, inside, is_at_or_under, reverse};
use crate::model::desired::Desired;
use crate::model::endpoint::Endpoint;
use crate::model::ids::ContainerId;
use crate::model::question::HOST_ALIASES;

/// The fixed meaning of a name or alias (lower case); `None` if it has none and can be given.
pub fn reserved(name: &str, domain: &str) -> Option<&'static str> {
    let (below, name) = match name.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, name),
    };
    if is_at_or_under(name, LOCALHOST) {
        Some("localhost and the names below it denote the client itself (RFC 6761)")
    } else if !below && (HOST_ALIASES.contains(&name) || inside(name, domain.trim_matches('.')) == Some("host")) {
        Some("it denotes the host in every container")
    } else if reverse::is_reverse(name) || below && reverse::is_reverse(&format!("x.{name}")) {
        Some("it is reserved for reverse lookups (RFC 1035, 3.5)")
    } else {
        None
    }
}

/// The endpoint of another container that `NAME.NETWORK`, `NAME.NETWORK.DOMAIN` or `NAME.DOMAIN` (lower case) denotes.
pub fn owner<'a>(desired: &'a Desired, domain: &str, name: &str, own: &ContainerId) -> Option<&'a Arc<Endpoint>> {
    let short = inside(name, domain.trim_matches('.'));
    let of = |network, name: &str| {
        let mut named = desired.named(network, name).iter();
        named.find(|endpoint| endpoint.container.id != *own && endpoint.is_own_name(name))
    };
    let by_network = |name: &str| {
        let mut parts = name.rmatch_indices('.').map(|(dot, _)| (&name[..dot], &name[dot + 1..]));
        parts.find_map(|(before, after)| {
            desired.networks_called(after).iter().find_map(|network| of(&network.name, before))
        })
    };
    let anywhere = |name: &str| desired.networks().find_map(|network| of(&network.name, name));
    by_network(name).or_else(|| short.and_then(by_network)).or_else(|| short.and_then(anywhere))
}

/// A name or alias that DNS does not resolve to the endpoint that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The name, in lower case.
    pub name: String,
    /// The endpoint that has it.
    pub by: Arc<Endpoint>,
    /// The endpoint that it resolves to.
    pub to: Arc<Endpoint>,
}

/// The names that others lose to the endpoint, and those that it loses to others.
pub fn lost(desired: &Desired, domain: &str, endpoint: &Arc<Endpoint>) -> Vec<Lost> {
    let domain = domain.trim_matches('.');
    let mut lost = Vec::new();
    for own in endpoint.own_names() {
        let by_network = format!("{own}.{}", endpoint.network.as_str().to_ascii_lowercase());
        let in_domain = [&own, &by_network].map(|name| format!("{name}.{domain}"));
        for name in [by_network].into_iter().chain(in_domain.into_iter().filter(|_| !domain.is_empty())) {
            let others = desired.dotted(&name).iter().filter(|other| other.container.id != endpoint.container.id);
            lost.extend(others.map(|by| Lost { name: name.clone(), by: by.clone(), to: endpoint.clone() }));
        }
    }
    for name in endpoint.dns_names().into_iter().filter(|name| name.contains('.') && !name.starts_with("*.")) {
        let to = owner(desired, domain, &name, &endpoint.container.id).cloned();
        lost.extend(to.map(|to| Lost { name, by: endpoint.clone(), to }));
    }
    lost
}

#[cfg(test)]
mod tests;
