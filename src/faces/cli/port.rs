//! `netd port`: lists the published ports of a container with who can reach them, publishes further ones, and stops
//! publishing.

use std::net::IpAddr;

use serde::Serialize;
use utoipa::ToSchema;

use super::Session;
use super::args::{ChangePortArgs, DryRun, Format, Output, PortArgs, PortVerb};
use super::format::Data;
use super::listing::add as add_object;
use super::output::{Failure, json};
use super::plan;
use super::table::table;
use super::ways::{Way, families, note, ways};
use crate::api::v1::{
    Container, Endpoint, ForeignChain, PlanRequest, Port, PortReach, PortRequest, PublishPort, PublishedPorts, Status,
};
use crate::faces::shared::client::segment;

pub(super) fn run(session: &mut Session<'_>, PortArgs { container, output, verb }: PortArgs) -> Result<(), Failure> {
    match verb {
        None => list(session, &container.unwrap_or_default(), &output),
        Some(PortVerb::Add { port, format }) => add(session, port, format),
        Some(PortVerb::Rm { port, drain }) => remove(session, port, drain),
    }
}

/// The path of the ports of the container, on that network or on any.
fn ports_of(container: &str, network: Option<&str>) -> String {
    match network {
        Some(network) => format!("/v1/networks/{}/endpoints/{}/ports", segment(network), segment(container)),
        None => format!("/v1/containers/{}/ports", segment(container)),
    }
}

fn add(session: &mut Session<'_>, args: ChangePortArgs, format: Format) -> Result<(), Failure> {
    let ChangePortArgs { container, port, network, dry_run: DryRun { dry_run } } = args;
    let attempt = format!("publish {port} of {container}");
    let (path, port) = (ports_of(&container, network.as_deref()), PortRequest::Spec(port));
    if dry_run {
        let request = PlanRequest::PublishPort { container, network, port };
        return plan::show(session, &attempt, &request, format);
    }
    let published: PublishedPorts =
        session.client.post(&path, &PublishPort { port }).map_err(|error| Failure::of(attempt, error))?;
    if format.json {
        return json(session.out, &published);
    }
    let PublishedPorts { container, network, ports } = published;
    for port in ports {
        writeln!(session.out, "{} on {network}: {port}", container.name)?;
    }
    Ok(())
}

fn remove(session: &mut Session<'_>, args: ChangePortArgs, drain: bool) -> Result<(), Failure> {
    let ChangePortArgs { container, port, network, dry_run: DryRun { dry_run } } = args;
    let attempt = format!("stop publishing {port} of {container}");
    if dry_run {
        let port = PortRequest::Spec(port);
        let request = PlanRequest::UnpublishPort { container, network, port, drain };
        return plan::show(session, &attempt, &request, Format::default());
    }
    let path = ports_of(&container, network.as_deref());
    let path = format!("{path}?port={}&drain={drain}", segment(&port.to_string()));
    session.client.delete(&path).map_err(|error| Failure::of(attempt, error))?;
    Ok(writeln!(session.out, "{container} no longer publishes {port}")?)
}

/// A publication with what a person wants to know about it.
#[derive(Serialize, ToSchema)]
struct Published {
    network: String,
    #[serde(flatten)]
    port: Port,
    reachable_by: String,
    ways: Vec<Way>,
}

impl Published {
    /// The ports of a container on one of its networks, including those that the network cannot publish. `ways_in` says
    /// for which families, IPv4 and IPv6, the container is reachable from outside at all; `dropping` lists the chains
    /// that block access.
    fn of(endpoint: &Endpoint, ways_in: [bool; 2], dropping: &[&ForeignChain]) -> Vec<Self> {
        let network = &endpoint.network;
        let published = endpoint.ports.iter().map(|port| {
            let ways = ways(port, endpoint, ways_in);
            let mut reachable_by = reachable_by(port, families(&ways), dropping);
            if let Some(process) = &port.taken_by {
                reachable_by.push_str(&format!("; another process of this host has {process}"));
            }
            Self { network: network.clone(), port: port.clone(), reachable_by, ways }
        });
        let skipped = endpoint.skipped_ports.iter().map(|skipped| {
            let reachable_by = format!("no host over {network}: {}", skipped.why);
            Self { network: network.clone(), port: skipped.port.clone(), reachable_by, ways: Vec::new() }
        });
        published.chain(skipped).collect()
    }
}

fn list(session: &mut Session<'_>, container: &str, output: &Output) -> Result<(), Failure> {
    let attempt = format!("list the ports of {container}");
    let container: Container = session
        .client
        .get(&format!("/v1/containers/{}", segment(container)))
        .map_err(|error| Failure::of(&attempt, error))?;
    let status: Status =
        session.client.get("/v1/status").map_err(|error| Failure::of("get the daemon's status", error))?;
    let dropping = dropping(&status, &container);
    let gateways = || container.endpoints.iter().flat_map(|endpoint| &endpoint.gateways);
    let ways_in = [gateways().any(IpAddr::is_ipv4), gateways().any(IpAddr::is_ipv6)];
    let endpoints = container.endpoints.iter();
    let ports: Vec<Published> = endpoints.flat_map(|endpoint| Published::of(endpoint, ways_in, &dropping)).collect();
    if output.json.json {
        return json(session.out, &ports);
    }
    if let Some(format) = output.format.as_ref().filter(|format| !format.is_default()) {
        let mut data = Data::default();
        ports.iter().try_for_each(|port| add_object(&mut data, port)).map_err(|error| Failure::of("print", error))?;
        return format.print(session.out, &attempt, data);
    }
    let note = note(ports.iter().flat_map(|published| &published.ways));
    let row = |published: Published| [published.port.to_string(), published.network, published.reachable_by];
    table(session, ["PORT", "NETWORK", "REACHABLE BY"], ports.into_iter().map(row))?;
    note.map_or(Ok(()), |note| Ok(writeln!(session.out, "{note}")?))
}

/// The chains of other programs that block access to the container's ports for all but this host.
fn dropping<'a>(status: &'a Status, container: &Container) -> Vec<&'a ForeignChain> {
    let concerns = |chain: &&ForeignChain| {
        chain.action != "adapted"
            && chain.traffic.iter().any(|traffic| traffic == "published")
            && container.endpoints.iter().any(|endpoint| chain.networks.contains(&endpoint.network))
    };
    status.firewall.iter().filter(concerns).collect()
}

/// Says who can reach a published port.
fn reachable_by(port: &Port, [v4, v6]: [bool; 2], dropping: &[&ForeignChain]) -> String {
    let host_ip = port.host_ip;
    if !host_ip.map_or(v4 || v6, |ip| if ip.is_ipv6() { v6 } else { v4 }) {
        return "no host: the container is on no network that other hosts can reach".into();
    }
    let concerns = |chain: &&&ForeignChain| match (chain.family.as_str(), host_ip) {
        ("ip", host_ip) => v4 && host_ip.is_none_or(|ip| ip.is_ipv4()),
        ("ip6", host_ip) => v6 && host_ip.is_none_or(|ip| ip.is_ipv6()),
        _ => true,
    };
    let one = |chain: &ForeignChain| {
        let over = match chain.family.as_str() {
            "ip" if host_ip.is_none() => "over IPv4 ",
            "ip6" if host_ip.is_none() => "over IPv6 ",
            _ => "",
        };
        let ForeignChain { family, table, chain, reason, .. } = chain;
        format!(
            "{over}this host only: chain {chain} of table {family} {table} ({reason}) drops the traffic of other hosts"
        )
    };
    let mut dropped: Vec<String> = dropping.iter().filter(concerns).map(|chain| one(chain)).collect();
    if !dropped.is_empty() && !host_ip.is_some_and(|ip| ip.is_loopback()) {
        for (name, there, family) in [("IPv4", v4, "ip"), ("IPv6", v6, "ip6")] {
            let open = !dropping.iter().any(|chain| [family, "inet"].contains(&chain.family.as_str()));
            if host_ip.is_none() && there && open {
                dropped.push(format!("over {name} every host that reaches this one"));
            }
        }
        return dropped.join("; ");
    }
    if !port.reach.is_empty() && !host_ip.is_some_and(|ip| ip.is_loopback()) {
        return by_the_hosts_rules(&port.reach);
    }
    match host_ip {
        None if v4 && v6 => "every host that reaches this one".into(),
        None => format!("every host that reaches this one over {}", if v4 { "IPv4" } else { "IPv6" }),
        Some(ip) if ip.is_unspecified() => {
            format!("every host that reaches this one over {}", if ip.is_ipv4() { "IPv4" } else { "IPv6" })
        }
        Some(ip) if ip.is_loopback() => "this host only".into(),
        Some(ip) => format!("hosts that reach {ip}"),
    }
}

/// The same of a strict port.
fn by_the_hosts_rules(reach: &[PortReach]) -> String {
    let one = |PortReach { who, why, .. }: &PortReach| {
        let why = why.join(", ");
        match who.as_str() {
            "anyone" => "every host that reaches this one".to_owned(),
            "some" => format!("this host and some others: {why}"),
            _ => format!("this host only: {why}"),
        }
    };
    let all: Vec<String> = reach.iter().map(one).collect();
    match all.as_slice() {
        [only, others @ ..] if reach.len() > 1 && others.iter().all(|other| other == only) => only.clone(),
        _ => {
            let family = |reach: &PortReach| if reach.family == "ipv4" { "IPv4" } else { "IPv6" };
            let over = reach.iter().zip(all).map(|(reach, text)| format!("over {} {text}", family(reach)));
            over.collect::<Vec<_>>().join("; ")
        }
    }
}
