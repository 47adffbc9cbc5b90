//! `netd network`.

use super::Session;
use super::args::{CreateArgs, DryRun, Format, NetworkVerb};
use super::output::{Failure, json, sentence};
use super::{filter, listing, plan};
use crate::api::v1::{CreateNetwork, Network, PlanRequest, Pruned, Renumber, SubnetRequest};
use crate::faces::shared::client::segment;
use crate::model::request::NetworkSpec;

pub(super) fn run(session: &mut Session<'_>, verb: NetworkVerb) -> Result<(), Failure> {
    match verb {
        NetworkVerb::Create(args) => create(session, *args),
        NetworkVerb::Ls { filter, listed } => {
            let failed = |error| Failure::of("network ls", error);
            let mut networks: Vec<Network> = session.client.get("/v1/networks").map_err(failed)?;
            filter::networks(session, &mut networks, &filter).map_err(failed)?;
            listing::networks(session, networks, &listed)
        }
        NetworkVerb::Inspect { names, output } => {
            let mut found = Vec::new();
            let mut missing = false;
            for name in names {
                match session.client.get::<Network>(&format!("/v1/networks/{}", segment(&name))) {
                    Ok(network) => found.push(network),
                    Err(error) if error.status().is_some() => {
                        missing = true;
                        session.complain(&sentence(format!("inspect {name}"), error));
                    }
                    Err(error) => return Err(Failure::of(format!("inspect {name}"), error)),
                }
            }
            listing::inspected(session, &found, &output, listing::add)?;
            if missing { Err(Failure::Told) } else { Ok(()) }
        }
        NetworkVerb::Renumber { name, subnet, format } => renumber(session, &name, subnet, format),
        NetworkVerb::Rm { names, dry_run } => remove(session, names, dry_run),
        NetworkVerb::Prune { dry_run, format } if dry_run.dry_run => {
            plan::show(session, "network prune", &PlanRequest::PruneNetworks(true), format)
        }
        NetworkVerb::Prune { format, .. } => {
            let nothing = serde_json::Map::new();
            let pruned: Pruned = session
                .client
                .post("/v1/networks/prune", &nothing)
                .map_err(|error| Failure::of("network prune", error))?;
            if format.json {
                return json(session.out, &pruned.removed);
            }
            pruned.removed.iter().try_for_each(|name| Ok(writeln!(session.out, "{name}")?))
        }
    }
}

fn create(session: &mut Session<'_>, args: CreateArgs) -> Result<(), Failure> {
    let attempt = format!("create network {}", args.name);
    let (format, dry_run) = (args.format, args.dry_run.dry_run);
    let request = request(args);
    NetworkSpec::try_from(request.clone()).map_err(|invalid| Failure::usage(&attempt, invalid))?;
    if dry_run {
        return plan::show(session, &attempt, &PlanRequest::CreateNetwork(Box::new(request)), format);
    }
    let network: Network =
        session.client.post("/v1/networks", &request).map_err(|error| Failure::of(&attempt, error))?;
    if format.json {
        return json(session.out, &network);
    }
    Ok(writeln!(session.out, "{}", network.name)?)
}

fn request(args: CreateArgs) -> CreateNetwork {
    CreateNetwork {
        name: args.name,
        driver: Some(args.driver),
        subnets: args.subnet.into_iter().map(SubnetRequest::Prefix).collect(),
        gateways: args.gateway.iter().map(ToString::to_string).collect(),
        ip_ranges: args.ip_range,
        ipv6: args.ipv6,
        internal: args.internal,
        icc: args.no_icc.then_some(false),
        masquerade: args.no_masquerade.then_some(false),
        mtu: args.mtu,
        dns: args.dns,
        host_access: args.host_access,
        sticky: args.sticky.then_some(true),
        on_demand: false,
        egress: args.egress,
        egress_allow: args.egress_allow,
        labels: args.label.into_iter().collect(),
        options: args.option.into_iter().collect(),
    }
}

fn renumber(session: &mut Session<'_>, name: &str, subnets: Vec<String>, format: Format) -> Result<(), Failure> {
    let path = format!("/v1/networks/{}/renumber", segment(name));
    let network: Network = session
        .client
        .post(&path, &Renumber { subnets })
        .map_err(|error| Failure::of(format!("renumber {name}"), error))?;
    if format.json {
        return json(session.out, &network);
    }
    let subnets: Vec<&str> = network.subnets.iter().map(|subnet| subnet.subnet.as_str()).collect();
    Ok(writeln!(session.out, "{} is now {}", network.name, subnets.join(", "))?)
}

/// Removes as many as possible, and reports each failure.
fn remove(session: &mut Session<'_>, names: Vec<String>, DryRun { dry_run }: DryRun) -> Result<(), Failure> {
    let mut failed = false;
    for name in names {
        let attempt = format!("remove network {name}");
        let removed = if dry_run {
            plan::steps(session, &PlanRequest::RemoveNetwork(name)).map(|steps| plan::lines(&steps))
        } else {
            session.client.delete(&format!("/v1/networks/{}", segment(&name))).map(|()| format!("{name}\n"))
        };
        match removed {
            Ok(text) => write!(session.out, "{text}")?,
            Err(error) if error.status().is_some() => {
                failed = true;
                session.complain(&sentence(attempt, error));
            }
            Err(error) => return Err(Failure::of(attempt, error)),
        }
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}
