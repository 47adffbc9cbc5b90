//! The tables and rows of `netd service ls` and `netd service ps`.

use std::collections::BTreeMap;

use super::{as_go, ids, pairs, shown};
use crate::api::v1::{Member, Service};
use crate::faces::cli::Session;
use crate::faces::cli::args::Listed;
use crate::faces::cli::format::{Data, Row};
use crate::faces::cli::output::{Failure, json};
use crate::faces::cli::table::table;

/// Prints services.
pub(in crate::faces::cli) fn services(
    session: &mut Session<'_>,
    services: Vec<Service>,
    listed: &Listed,
) -> Result<(), Failure> {
    let shown = |id: &str| shown(id, listed.no_trunc);
    match listed.output.format.as_ref().filter(|format| !format.is_default()) {
        _ if listed.output.json.json => json(session.out, &services),
        Some(format) => {
            let mut data = Data::default();
            services.into_iter().for_each(|service| data.row(service_row(shown(&service.id), service)));
            format.print(session.out, "list services", data)
        }
        None if listed.quiet => ids(session, services.iter().map(|service| shown(&service.id))),
        None => {
            let header = ["NAME", "ID", "MODE", "REPLICAS", "NETWORKS", "ADDRESSES", "PORTS"];
            let row = |service: Service| {
                let [networks, addresses, ports] = columns(&service).map(|cells| cells.join(", "));
                let replicas = service.replicas.to_string();
                [service.name, shown(&service.id), service.mode, replicas, networks, addresses, ports]
            };
            table(session, header, services.into_iter().map(row))
        }
    }
}

/// Prints members.
pub(in crate::faces::cli) fn members(
    session: &mut Session<'_>,
    members: Vec<Member>,
    listed: &Listed,
) -> Result<(), Failure> {
    let shown = |id: &str| shown(id, listed.no_trunc);
    match listed.output.format.as_ref().filter(|format| !format.is_default()) {
        _ if listed.output.json.json => json(session.out, &members),
        Some(format) => {
            let mut data = Data::default();
            members.into_iter().for_each(|member| data.row(member_row(shown(&member.container.id), member)));
            format.print(session.out, "list members", data)
        }
        None if listed.quiet => ids(session, members.iter().map(|member| shown(&member.container.id))),
        None => {
            let header = ["CONTAINER", "ID", "NETWORK", "ADDRESSES", "STATE", "SINCE", "WHY"];
            let row = |member: Member| {
                let (id, since) = (shown(&member.container.id), member.since.unwrap_or_default());
                let addresses = member.addresses.join(", ");
                [member.container.name, id, member.network, addresses, member.state, since, member.why]
            };
            table(session, header, members.into_iter().map(row))
        }
    }
}

/// Networks, addresses, ports.
fn columns(service: &Service) -> [Vec<String>; 3] {
    let networks = || service.networks.iter();
    [
        networks().map(|on| on.network.clone()).collect(),
        networks().flat_map(|on| &on.addresses).map(ToString::to_string).collect(),
        service.ports.iter().map(ToString::to_string).collect(),
    ]
}

fn service_row(id: String, service: Service) -> Row {
    let [networks, addresses, ports] = columns(&service);
    let time = |time: &Option<String>| time.as_deref().map(as_go).unwrap_or_default();
    let fields = vec![
        ("Addresses", "ADDRESSES", addresses.join(", ")),
        ("CreatedAt", "CREATED AT", time(&service.created)),
        ("ID", "ID", id),
        ("Image", "IMAGE", String::new()),
        ("Labels", "LABELS", pairs(&service.labels)),
        ("Mode", "MODE", service.mode),
        ("Name", "NAME", service.name),
        ("Networks", "NETWORKS", networks.join(",")),
        ("Origin", "ORIGIN", service.origin),
        ("Ports", "PORTS", ports.join(", ")),
        ("Replicas", "REPLICAS", service.replicas.to_string()),
        ("UpdatedAt", "UPDATED AT", time(&service.updated)),
        ("Version", "VERSION", service.version.to_string()),
    ];
    Row { kind: "service", fields, labels: service.labels }
}

fn member_row(id: String, member: Member) -> Row {
    let unknown = |name, title| (name, title, String::new());
    let since = member.since.as_deref().map(as_go).unwrap_or_default();
    let fields = vec![
        ("Addresses", "ADDRESSES", member.addresses.join(", ")),
        ("CurrentState", "CURRENT STATE", member.state.clone()),
        unknown("DesiredState", "DESIRED STATE"),
        ("Error", "ERROR", member.why.clone()),
        ("ID", "ID", id),
        unknown("Image", "IMAGE"),
        ("Name", "NAME", member.container.name),
        ("Network", "NETWORK", member.network),
        unknown("Node", "NODE"),
        unknown("Ports", "PORTS"),
        ("Since", "SINCE", since),
        ("State", "STATE", member.state),
        ("Why", "WHY", member.why),
    ];
    Row { kind: "member", fields, labels: BTreeMap::new() }
}
