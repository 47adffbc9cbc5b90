//! The filters of `netd service ls` and `netd service ps`.

use super::{BadFilter, Filter, Key, all, exact, label, parse, part};
use crate::api::v1::{Member, Service};

const SERVICES: &[Key] = &[
    ("id", part),
    ("label", label),
    ("mode", |text| ["dns", "vip"].contains(&text).then(|| exact(text)).flatten()),
    ("name", part),
    ("network", exact),
    ("origin", |text| ["defined", "labels"].contains(&text).then(|| exact(text)).flatten()),
];

const MEMBERS: &[Key] = &[
    ("id", part),
    ("name", part),
    ("network", exact),
    ("state", |text| STATES.contains(&text).then(|| exact(text)).flatten()),
];

const STATES: &[&str] = &["starting", "ready", "unhealthy", "draining"];

/// Reads one filter of services.
pub(in crate::faces::cli) fn service(text: &str) -> Result<Filter, BadFilter> {
    parse(text, SERVICES)
}

/// Reads one filter of members.
pub(in crate::faces::cli) fn member(text: &str) -> Result<Filter, BadFilter> {
    parse(text, MEMBERS)
}

/// Leaves the services for which all filters hold.
pub(in crate::faces::cli) fn services(services: &mut Vec<Service>, filters: &[Filter]) {
    let holds = |Filter { key, value }: &Filter, service: &Service| match *key {
        "id" => value.is(&service.id),
        "label" => value.is_among(&service.labels),
        "mode" => value.is(&service.mode),
        "name" => value.is(&service.name),
        "network" => service.networks.iter().any(|on| value.is(&on.network)),
        "origin" => value.is(&service.origin),
        _ => false,
    };
    services.retain(|service| all(filters, |filter| holds(filter, service)));
}

/// Leaves the members for which all filters hold.
pub(in crate::faces::cli) fn members(members: &mut Vec<Member>, filters: &[Filter]) {
    let holds = |Filter { key, value }: &Filter, member: &Member| match *key {
        "id" => value.is(&member.container.id),
        "name" => value.is(&member.container.name),
        "network" => value.is(&member.network),
        "state" => value.is(&member.state),
        _ => false,
    };
    members.retain(|member| all(filters, |filter| holds(filter, member)));
}
