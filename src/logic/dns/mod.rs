//! The DNS zone: maps a question and its client to an answer, from desired state alone.
//!
//! netd's names are: those below the domain, those of one label, those that end in the name of one of netd's networks,
//! those that a container on a shared network has (also followed by a search domain of the host), and the reverse names
//! of netd's subnets. They are answered here and never leave the host; everything else is forwarded.
//!
//! The name of a service that stands for several containers comes first (`members`). An exact name takes precedence over a service of that form, and that over aliases like `*.app`. A container's name
//! on its network, `NAME.NETWORK`, with or without the domain, takes precedence over all other names and aliases of
//! that form ([`claims`]).

pub mod claims;
mod members;
mod reverse;
mod service;
mod view;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::model::desired::Desired;
use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;
use crate::model::question::{Answer, Client, HOST_ALIASES, Reason, RecordType};
use view::{Holders, View};

/// The names between [`HOST_ALIASES`] and the root. They exist, because otherwise a resolver that follows RFC 8020
/// would conclude that there is nothing below them.
const ABOVE_HOST_ALIASES: [&str; 4] = ["docker.internal", "containers.internal", "netd.internal", "internal"];
/// RFC 6761, 6.3: this name and everything below it is the client's own loopback.
const LOCALHOST: &str = "localhost";
/// Maximum bytes on the wire of all texts of one answer: a message has 64 KiB.
const TEXTS_MAX: usize = 48 << 10;
/// The bytes of a TXT record besides its text: owner (compressed), type, class, time to live, lengths (RFC 1035,
/// 4.1.3).
const TEXT_HEADER: usize = 13;

/// The data of the zone.
#[derive(Debug, Clone, Copy)]
pub struct Zone<'a> {
    /// Networks, containers, endpoints.
    pub desired: &'a Desired,
    /// The domain of netd's names ("internal"), in lower case.
    pub domain: &'a str,
    /// The host's search domains, which containers may have as well.
    pub search: &'a [String],
}

/// An answer and how it was found, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The answer.
    pub answer: Answer,
    /// The reason for the answer.
    pub reason: Reason,
    /// The networks that the client sees, in its order.
    pub networks: Vec<NetworkName>,
    /// The endpoints that have the name.
    pub holders: Vec<Arc<Endpoint>>,
    /// Networks that the client does not see, on which others have the name.
    pub hidden: Vec<NetworkName>,
}

impl Zone<'_> {
    /// The answer to the client for `name` (without the final dot, any case).
    pub fn answer(&self, client: Client, name: &str, kind: RecordType) -> Answer {
        let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
        let name = if is_lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) };
        self.decide(client, &name, kind).0
    }

    /// The same answer, and how it was found.
    pub fn explain(&self, client: Client, name: &str, kind: RecordType) -> Explained {
        let name = name.to_ascii_lowercase();
        let (answer, reason) = self.decide(client, &name, kind);
        let holders = |client| {
            let view = View::of(self.desired, client);
            view.map(|view| self.holders(&view, &name, reason == Reason::Search)).unwrap_or_default()
        };
        let view = View::of(self.desired, client);
        let networks: Vec<NetworkName> =
            view.iter().flat_map(View::networks).map(|network| network.name.clone()).collect();
        let mut hidden: Vec<NetworkName> = match reason {
            Reason::Unknown | Reason::Foreign => holders(Client::Host).iter().map(|e| e.network.clone()).collect(),
            _ => Vec::new(),
        };
        hidden.retain(|network| !networks.contains(network));
        hidden.dedup();
        let holders = match reason {
            Reason::Name | Reason::Wildcard | Reason::Service | Reason::Search | Reason::Reverse => holders(client),
            _ => Vec::new(),
        };
        Explained { answer, reason, networks, holders, hidden }
    }

    /// Whether other names may be forwarded to upstreams; not for a container that is on internal networks only.
    pub fn may_forward(&self, client: Client) -> bool {
        View::of(self.desired, client)
            .is_some_and(|view| view.client.is_none() || view.networks().any(|network| !network.internal))
    }

    /// `name` is in lower case, here and below.
    fn decide(&self, client: Client, name: &str, kind: RecordType) -> (Answer, Reason) {
        let Some(view) = View::of(self.desired, client) else {
            return (Answer::Refused, Reason::Stranger);
        };
        match self.of_view(&view, name, kind) {
            (Answer::NoData, reason) if kind == RecordType::Any => (Answer::Any, reason),
            decided => decided,
        }
    }

    fn of_view(&self, view: &View<'_>, name: &str, kind: RecordType) -> (Answer, Reason) {
        let domain = self.domain.trim_matches('.');
        if let Some(answer) = reverse::answer(view, domain, name, kind) {
            let reason = if answer == Answer::Forward { Reason::Foreign } else { Reason::Reverse };
            return (answer, reason);
        }
        if is_at_or_under(name, LOCALHOST) {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return (addresses(loopback.into_iter(), kind), Reason::Loopback);
        }
        if HOST_ALIASES.contains(&name) || inside(name, domain) == Some("host") {
            return (addresses(view.host().into_iter(), kind), Reason::Host);
        }
        self.known(view, name, kind).unwrap_or_else(|| self.unknown(view, name, kind))
    }

    /// Answers a name that a container has, with or without the domain.
    fn known(&self, view: &View<'_>, name: &str, kind: RecordType) -> Option<(Answer, Reason)> {
        let forms = || self.forms(view, name);
        let held = |found: Holders<'_>, reason| (data(&found, kind), reason);
        let balanced = forms().find_map(|form| members::find(view, form));
        let balanced = balanced.map(|found| (members::answer(view, &found, kind), Reason::Name));
        balanced
            .or_else(|| forms().find_map(|form| view.exact(form)).map(|found| held(found, Reason::Name)))
            .or_else(|| forms().find_map(|form| service::answer(self, view, form, kind)))
            .or_else(|| forms().find_map(|form| view.wild(form)).map(|found| held(found, Reason::Wildcard)))
    }

    /// The name as given, and without the domain. The latter comes first if it is a container's own.
    fn forms<'n>(&self, view: &View<'_>, name: &'n str) -> impl Iterator<Item = &'n str> {
        let short = inside(name, self.domain.trim_matches('.'));
        let host = |name: &'n str| service::host(name).unwrap_or(name);
        let own = short.filter(|short| view.is_own(host(short)) && view.by_network(host(name)).is_none());
        let rest = if own.is_some() { [Some(name), None] } else { [Some(name), short] };
        own.into_iter().chain(rest.into_iter().flatten())
    }

    fn unknown(&self, view: &View<'_>, name: &str, kind: RecordType) -> (Answer, Reason) {
        let domain = self.domain.trim_matches('.');
        let inner = inside(name, domain);
        let short = inner.unwrap_or(name);
        if name == domain || view.network(short).is_some() || ABOVE_HOST_ALIASES.contains(&name) {
            // An apex exists, and has none of the types that reach this point.
            return (Answer::NoData, Reason::Above);
        }
        // A service belongs to the owner of its host name.
        let host = service::host(name);
        let owner = host.unwrap_or(name);
        // Visible or not.
        let is_network = |name: &str| !self.desired.networks_called(name).is_empty();
        let ours = inner.is_some()
            || !(owner.is_empty() || owner.contains('.'))
            || suffixes(owner).any(is_network)
            || is_network(owner)
            || host.is_some_and(|host| view.exact(host).is_some() || members::find(view, host).is_some());
        if ours {
            let above = view.is_above(name) || inner.is_some_and(|inner| view.is_above(inner));
            return if above { (Answer::NoData, Reason::Above) } else { (Answer::NxDomain, Reason::Unknown) };
        }
        // A stub resolver that tries search domains first must find the container all the same, and not a host with
        // that name in the domain (or a wildcard there).
        let searched =
            self.search.iter().find_map(|search| self.known(view, inside(name, search.trim_matches('.'))?, kind));
        // The host resolves its own search domains itself.
        let searched = searched.filter(|_| view.client.is_some());
        searched.map_or((Answer::Forward, Reason::Foreign), |(answer, _)| (answer, Reason::Search))
    }

    /// The endpoints that the name denotes in the view, however it is found.
    fn holders(&self, view: &View<'_>, name: &str, searched: bool) -> Vec<Arc<Endpoint>> {
        if let Some(address) = reverse::address(name) {
            return self
                .desired
                .at_address(address)
                .filter(|endpoint| view.sees(&endpoint.network))
                .cloned()
                .into_iter()
                .collect();
        }
        let searched = self.search.iter().filter(|_| searched).filter_map(|s| inside(name, s.trim_matches('.')));
        let forms: Vec<&str> = self.forms(view, name).chain(searched).collect();
        let balanced = forms.iter().find_map(|form| members::find(view, form));
        let found = balanced
            .map(|found| members::holders(view, &found))
            .or_else(|| forms.iter().find_map(|form| view.exact(form)))
            .or_else(|| forms.iter().find_map(|form| service::holders(view, form)))
            .or_else(|| forms.iter().find_map(|form| view.wild(form)));
        found.unwrap_or_default().into_iter().cloned().collect()
    }
}

/// The endpoints' records of the type.
fn data(found: &[&Arc<Endpoint>], kind: RecordType) -> Answer {
    if kind == RecordType::Txt {
        return texts(found);
    }
    addresses(found.iter().flat_map(|endpoint| endpoint.addresses.iter().map(IpNetwork::ip)), kind)
}

/// The labels, without repetitions, as many as fit in one answer.
fn texts(found: &[&Arc<Endpoint>]) -> Answer {
    let mut texts: Vec<String> = Vec::new();
    let mut left = TEXTS_MAX;
    for (key, value) in found.iter().flat_map(|endpoint| &endpoint.labels) {
        let text = format!("{key}={value}");
        // Each 255 bytes of a text are preceded by a length byte (RFC 1035, 3.3).
        let size = TEXT_HEADER + text.len() + text.len() / 255;
        if size <= left && !texts.contains(&text) {
            left -= size;
            texts.push(text);
        }
    }
    if texts.is_empty() { Answer::NoData } else { Answer::Txt(texts) }
}

/// The addresses of the requested type, without repetitions, in order.
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
        _ => Answer::NoData,
    }
}

/// The part before `.domain`, compared without case; `None` if the name is not below it.
fn inside<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    let (before, end) = name.split_at_checked(name.len().checked_sub(domain.len())?)?;
    before.strip_suffix('.').filter(|_| !domain.is_empty() && end.eq_ignore_ascii_case(domain))
}

fn is_at_or_under(name: &str, domain: &str) -> bool {
    name == domain || inside(name, domain).is_some()
}

/// The part of the name after each of its dots.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(dot, _)| &name[dot + 1..])
}

#[cfg(test)]
mod tests;
