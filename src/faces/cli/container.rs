//! Containers: `connect`, `disconnect`, `ps`, `port`, `inspect`.

use std::net::IpAddr;
use std::path::Path;

use serde::Serialize;

use super::Session;
use super::args::{ConnectArgs, DryRun, EndpointArgs, Format};
use super::output::{Failure, json, objects, sentence};
use super::plan;
use super::table::table;
use super::ways::{Way, families, note, ways};
use crate::api::v1::{Connect, Container, Endpoint, ForeignChain, Network, PlanRequest, Port, PortRequest, Status};
use crate::faces::shared::client::{ClientError, segment};
use crate::model::names::ReservationId;

/// The request of both `connect` and `run`.
pub(super) fn request(container: String, args: EndpointArgs) -> Connect {
    Connect {
        container,
        ip: args.ip.map(|ip| ip.to_string()),
        aliases: args.aliases,
        ports: args.ports.into_iter().map(PortRequest::Spec).collect(),
        expose: args.expose,
        labels: args.label.into_iter().collect(),
        dns: args.dns,
        ..Connect::default()
    }
}

pub(super) fn connect(session: &mut Session<'_>, args: ConnectArgs) -> Result<(), Failure> {
    let attempt = format!("connect {} to network {}", args.container, args.network);
    let netns = args.netns.as_deref().map(absolute).transpose().map_err(|why| Failure::usage(&attempt, why))?;
    let request = Connect {
        netns,
        pid: args.pid,
        reservation: args.reservation,
        ip6: args.ip6.map(|ip| ip.to_string()),
        mac: args.mac,
        ifname: args.ifname,
        ..request(args.container, args.endpoint)
    };
    request.clone().into_spec(&args.network).map_err(|invalid| Failure::usage(&attempt, invalid))?;
    if args.dry_run.dry_run {
        let request = PlanRequest::Connect { network: args.network, endpoint: Box::new(request) };
        return plan::show(session, &attempt, &request, args.format);
    }
    let path = format!("/v1/networks/{}/endpoints", segment(&args.network));
    let endpoint: Endpoint = session.client.post(&path, &request).map_err(|error| Failure::of(&attempt, error))?;
    if args.format.json {
        return json(session.out, &endpoint);
    }
    Ok(writeln!(session.out, "{}", endpoint.summary())?)
}

/// Makes a path absolute, because the daemon has another working directory.
fn absolute(path: &Path) -> Result<String, String> {
    let absolute = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    absolute.into_os_string().into_string().map_err(|path| format!("{} is not UTF-8", Path::new(&path).display()))
}

pub(super) fn disconnect(
    session: &mut Session<'_>,
    (network, container): (String, String),
    keep: Option<ReservationId>,
    DryRun { dry_run }: DryRun,
) -> Result<(), Failure> {
    let attempt = format!("disconnect {container} from network {network}");
    if dry_run {
        let request = PlanRequest::Disconnect { network, container, keep };
        return plan::show(session, &attempt, &request, Format::default());
    }
    let query = keep.as_ref().map(|id| format!("?keep={}", segment(id.as_str()))).unwrap_or_default();
    let path = format!("/v1/networks/{}/endpoints/{}{query}", segment(&network), segment(&container));
    session.client.delete(&path).map_err(|error| Failure::of(attempt, error))?;
    let kept = keep.map(|id| format!(", kept as reservation {id}")).unwrap_or_default();
    Ok(writeln!(session.out, "{container} disconnected from {network}{kept}")?)
}

pub(super) fn ps(session: &mut Session<'_>, format: Format) -> Result<(), Failure> {
    let containers: Vec<Container> =
        session.client.get("/v1/containers").map_err(|error| Failure::of("list containers", error))?;
    if format.json {
        return json(session.out, &containers);
    }
    let row = |container: Container| {
        let endpoints = &container.endpoints;
        let networks: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.network.as_str()).collect();
        let addresses: Vec<&str> = endpoints.iter().flat_map(|e| &e.addresses).map(String::as_str).collect();
        let ports: Vec<String> = endpoints.iter().flat_map(|e| &e.ports).map(ToString::to_string).collect();
        let short = container.id.get(..12).unwrap_or(&container.id).to_owned();
        [container.name.clone(), short, networks.join(", "), addresses.join(", "), ports.join(", ")]
    };
    table(session, ["NAME", "ID", "NETWORKS", "ADDRESSES", "PORTS"], containers.into_iter().map(row))
}

/// A publication with what a person wants to know about it.
#[derive(Serialize)]
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
            let reachable_by = reachable_by(port.host_ip, families(&ways), dropping);
            Self { network: network.clone(), port: port.clone(), reachable_by, ways }
        });
        let skipped = endpoint.skipped_ports.iter().map(|skipped| {
            let reachable_by = format!("no host over {network}: {}", skipped.why);
            Self { network: network.clone(), port: skipped.port.clone(), reachable_by, ways: Vec::new() }
        });
        published.chain(skipped).collect()
    }
}

pub(super) fn port(session: &mut Session<'_>, container: &str, format: Format) -> Result<(), Failure> {
    let container: Container = session
        .client
        .get(&format!("/v1/containers/{}", segment(container)))
        .map_err(|error| Failure::of(format!("list the ports of {container}"), error))?;
    let status: Status =
        session.client.get("/v1/status").map_err(|error| Failure::of("get the daemon's status", error))?;
    let dropping = dropping(&status, &container);
    let gateways = || container.endpoints.iter().flat_map(|endpoint| &endpoint.gateways);
    let ways_in = [gateways().any(IpAddr::is_ipv4), gateways().any(IpAddr::is_ipv6)];
    let endpoints = container.endpoints.iter();
    let ports: Vec<Published> = endpoints.flat_map(|endpoint| Published::of(endpoint, ways_in, &dropping)).collect();
    if format.json {
        return json(session.out, &ports);
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

/// Says who can reach a port that is published on this host address.
fn reachable_by(host_ip: Option<IpAddr>, [v4, v6]: [bool; 2], dropping: &[&ForeignChain]) -> String {
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

/// A container or a network.
#[derive(Serialize)]
#[serde(untagged)]
enum Thing {
    Container(Container),
    Network(Network),
}

pub(super) fn inspect(session: &mut Session<'_>, names: Vec<String>, format: Format) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut missing = false;
    for name in names {
        match thing(session, &name) {
            Ok(Some(thing)) => found.push(thing),
            Ok(None) => {
                missing = true;
                let why = "no container or network has that name: see `netd ps` and `netd network ls`";
                session.complain(&sentence(format!("inspect {name}"), why));
            }
            Err(error) => return Err(Failure::of(format!("inspect {name}"), error)),
        }
    }
    if format.json {
        json(session.out, &found)?;
    } else {
        objects(session.out, &found)?;
    }
    if missing { Err(Failure::Told) } else { Ok(()) }
}

fn thing(session: &Session<'_>, name: &str) -> Result<Option<Thing>, ClientError> {
    let container = found(session.client.get(&format!("/v1/containers/{}", segment(name))))?;
    if let Some(container) = container {
        return Ok(Some(Thing::Container(container)));
    }
    Ok(found(session.client.get(&format!("/v1/networks/{}", segment(name))))?.map(Thing::Network))
}

/// Not found is a result, not a failure.
pub(super) fn found<T>(reply: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match reply {
        Ok(thing) => Ok(Some(thing)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}
