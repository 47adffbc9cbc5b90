//! Explains in text why a name has its answer.

use crate::engine::dns::names::Asked;
use crate::engine::state::snapshot::Explained;
use crate::engine::telemetry::Origin;
use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;
use crate::model::question::{Answer, Reason};

/// What upstreams contributed to the answer.
pub(super) enum Upstream {
    /// None: the name is local.
    NotConcerned,
    /// None: netd does not forward the client's questions.
    Forbidden,
    /// An upstream was asked, or would have been.
    Asked(Asked),
}

/// A reason as in JSON.
pub(super) fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Stranger => "stranger",
        Reason::Name => "name",
        Reason::Wildcard => "wildcard",
        Reason::Service => "service",
        Reason::Search => "search",
        Reason::Host => "host",
        Reason::Loopback => "loopback",
        Reason::Reverse => "reverse",
        Reason::Above => "above",
        Reason::Unknown => "unknown",
        Reason::Foreign => "foreign",
    }
}

/// The explanation: what the client (`who`) sees, which container has the name, where else it exists, and what an
/// upstream answered.
pub(super) fn lines(explained: &Explained, upstream: &Upstream, name: &str, kind: &str, who: &str) -> Vec<String> {
    let mut lines = vec![sees(who, &explained.networks)];
    match upstream {
        // This follows from no rule of netd: the container has a resolver of its own.
        Upstream::Asked(_) if explained.answer != Answer::Forward => {
            lines.push(format!("no container visible to {who} has the name"));
        }
        _ => lines.extend(reason(explained, name, who)),
    }
    if explained.answer == Answer::NoData {
        lines.push(format!("the name exists, but it has no {kind} records"));
    }
    lines.extend(explained.hidden.iter().map(|network| {
        format!("the name exists on network {network}, to which {who} is not connected: `netd connect {network} {who}`")
    }));
    match upstream {
        Upstream::NotConcerned => {}
        Upstream::Forbidden => lines.push(format!("not forwarded: {who} is on internal networks only")),
        Upstream::Asked(asked) => lines.extend(describe(asked)),
    }
    lines
}

fn sees(who: &str, networks: &[NetworkName]) -> String {
    let list: Vec<&str> = networks.iter().map(NetworkName::as_str).collect();
    match list.as_slice() {
        [] => format!("{who} sees no network"),
        [one] => format!("{who} sees network {one}"),
        many => format!("{who} sees the networks {}, in this order", many.join(", ")),
    }
}

fn reason(explained: &Explained, name: &str, who: &str) -> Vec<String> {
    let holders = |what: &str| explained.holders.iter().map(|endpoint| holder(endpoint, what)).collect();
    let one = |line: String| vec![line];
    match explained.reason {
        Reason::Stranger => one(format!("{who} has no address on a network of netd")),
        Reason::Name => holders("has the name"),
        Reason::Wildcard => holders("has an alias `*.…` above the name"),
        Reason::Service => holders("serves it"),
        Reason::Search => holders("has the name without the search domain of the host"),
        Reason::Reverse if explained.holders.is_empty() => {
            one(format!("{name} is in a subnet of netd: it is not forwarded"))
        }
        Reason::Reverse => holders("has the address"),
        Reason::Host => one(format!("the name denotes the host, at the address where {who} reaches it")),
        Reason::Loopback => one("localhost and the names below it denote the client itself (RFC 6761)".into()),
        Reason::Above => one("the name has no records, but names below it have".into()),
        Reason::Unknown if !name.contains('.') => {
            one(format!("no container visible to {who} has the name, and names of one label are not forwarded"))
        }
        Reason::Unknown => one(format!(
            "no container visible to {who} has the name, and names in netd's domain or below a network's name are not \
             forwarded"
        )),
        Reason::Foreign => one("it is an external name: upstreams answer it".into()),
    }
}

fn holder(endpoint: &Endpoint, what: &str) -> String {
    let addresses: Vec<String> = endpoint.addresses.iter().map(|address| address.ip().to_string()).collect();
    let addresses = if addresses.is_empty() { "no address".into() } else { addresses.join(", ") };
    format!("container {} on network {} {what}: {addresses}", endpoint.container.name, endpoint.network)
}

fn describe(asked: &Asked) -> Vec<String> {
    let ttl = asked.ttl.map(|ttl| format!(", TTL {ttl} s")).unwrap_or_default();
    let line = match asked.origin {
        Origin::Local => "answered without asking an upstream".to_owned(),
        Origin::Upstream(server) => format!("upstream {server} answered just now{ttl}"),
        Origin::Cache => format!("answered from the cache{ttl}"),
        Origin::Stale => "answered from the cache with an expired answer, because no upstream answers".to_owned(),
        Origin::Nobody => "no upstream answered: see `netd_dns_upstream_*` in GET /metrics".to_owned(),
    };
    [line].into_iter().chain(asked.notes.iter().cloned()).collect()
}
