//! Containers: `connect`, `disconnect`, `ps`, `inspect`.

use std::path::Path;

use serde::Serialize;

use super::Session;
use super::args::{ConnectArgs, DryRun, EndpointArgs, Format, Inspected, Listed};
use super::filter::Filter;
use super::output::{Failure, json, sentence};
use super::{filter, listing, plan};
use crate::api::v1::{Connect, Container, Endpoint, Network, PlanRequest, PortRequest};
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
        trusted: args.trusted,
        labels: args.label.into_iter().collect(),
        dns: args.dns,
        egress: args.egress,
        egress_allow: args.egress_allow,
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

pub(super) fn ps(session: &mut Session<'_>, filters: &[Filter], listed: &Listed) -> Result<(), Failure> {
    let failed = |error| Failure::of("list containers", error);
    let mut containers: Vec<Container> = session.client.get("/v1/containers").map_err(failed)?;
    filter::containers(session, &mut containers, filters).map_err(failed)?;
    listing::containers(session, containers, listed)
}

/// A container or a network.
#[derive(Serialize)]
#[serde(untagged)]
enum Thing {
    Container(Container),
    Network(Box<Network>),
}

pub(super) fn inspect(session: &mut Session<'_>, names: Vec<String>, output: &Inspected) -> Result<(), Failure> {
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
    listing::inspected(session, &found, output, |data, thing| match thing {
        Thing::Container(container) => listing::add(data, container),
        Thing::Network(network) => listing::add(data, network.as_ref()),
    })?;
    if missing { Err(Failure::Told) } else { Ok(()) }
}

fn thing(session: &Session<'_>, name: &str) -> Result<Option<Thing>, ClientError> {
    let container = found(session.client.get(&format!("/v1/containers/{}", segment(name))))?;
    if let Some(container) = container {
        return Ok(Some(Thing::Container(container)));
    }
    Ok(found(session.client.get(&format!("/v1/networks/{}", segment(name))))?
        .map(|network| Thing::Network(Box::new(network))))
}

/// Not found is a result, not a failure.
pub(super) fn found<T>(reply: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match reply {
        Ok(thing) => Ok(Some(thing)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}
