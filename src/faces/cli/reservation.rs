//! `netd reservation`.

use super::Session;
use super::args::{DryRun, Format, ReservationVerb, ReserveArgs};
use super::output::{Failure, json, sentence};
use super::plan;
use super::table::table;
use crate::api::v1::{PlanRequest, PortRequest, Reservation, Reserve};
use crate::faces::shared::client::segment;
use crate::model::names::ReservationId;

pub(super) fn run(session: &mut Session<'_>, verb: ReservationVerb) -> Result<(), Failure> {
    match verb {
        ReservationVerb::Create(args) => create(session, args),
        ReservationVerb::Ls { network, format } => list(session, network.as_deref(), format),
        ReservationVerb::Rm { ids, dry_run } => remove(session, ids, dry_run),
    }
}

fn create(session: &mut Session<'_>, args: ReserveArgs) -> Result<(), Failure> {
    let ReserveArgs { network, id, ports, ip, ip6, mac, dry_run, format } = args;
    let attempt = format!("reserve {id} on network {network}");
    let (ip, ip6) = (ip.map(|ip| ip.to_string()), ip6.map(|ip| ip.to_string()));
    let ports = ports.into_iter().map(PortRequest::Spec).collect();
    let request = Reserve { id, ip, ip6, mac, ports };
    request.clone().into_spec(&network).map_err(|invalid| Failure::usage(&attempt, invalid))?;
    if dry_run.dry_run {
        let request = PlanRequest::Reserve { network, reservation: Box::new(request) };
        return plan::show(session, &attempt, &request, format);
    }
    let path = format!("/v1/networks/{}/reservations", segment(&network));
    let reservation: Reservation =
        session.client.post(&path, &request).map_err(|error| Failure::of(&attempt, error))?;
    if format.json {
        return json(session.out, &reservation);
    }
    Ok(writeln!(session.out, "{}", reservation.summary())?)
}

fn list(session: &mut Session<'_>, network: Option<&str>, format: Format) -> Result<(), Failure> {
    let path = match network {
        Some(network) => format!("/v1/networks/{}/reservations", segment(network)),
        None => "/v1/reservations".to_owned(),
    };
    let reservations: Vec<Reservation> =
        session.client.get(&path).map_err(|error| Failure::of("list reservations", error))?;
    if format.json {
        return json(session.out, &reservations);
    }
    let row = |reservation: Reservation| {
        let Reservation { id, network, addresses, mac, ports, created } = reservation;
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        [id, network, addresses.join(", "), mac, ports.join(", "), created]
    };
    let header = ["ID", "NETWORK", "ADDRESSES", "MAC", "PORTS", "CREATED"];
    table(session, header, reservations.into_iter().map(row))
}

/// Releases as many as possible, and reports each failure.
fn remove(session: &mut Session<'_>, ids: Vec<ReservationId>, DryRun { dry_run }: DryRun) -> Result<(), Failure> {
    let mut failed = false;
    for id in ids {
        let attempt = format!("release reservation {id}");
        let removed = if dry_run {
            plan::steps(session, &PlanRequest::ReleaseReservation(id.into())).map(|steps| plan::lines(&steps))
        } else {
            session.client.delete(&format!("/v1/reservations/{}", segment(id.as_str()))).map(|()| format!("{id}\n"))
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
