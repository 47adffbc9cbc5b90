//! `GET /metrics`: the Prometheus text format (exposition format 0.0.4), with the numbers of objects from the snapshot
//! and the counters of the name service.

mod dns;
mod text;

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::text::Family;
use super::Shared;
use crate::engine::Snapshot;
use crate::engine::telemetry::Repairs;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Counts for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "daemon",
    responses((status = 200, body = String, content_type = "text/plain", description = "Exposition format 0.0.4")))]
async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let snapshot = shared.handle.snapshot();
    let mut text = render(&snapshot, &shared.handle.telemetry().repairs, shared.is_ready());
    dns::render(&mut text, &snapshot.desired, &shared.handle.telemetry().meter, shared.names.as_ref());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

fn render(snapshot: &Snapshot, repairs: &Repairs, ready: bool) -> String {
    let (networks, containers, endpoints) = snapshot.desired.counts();
    let publications = snapshot.desired.containers().flat_map(|attached| attached.publications());
    let ports: u64 = publications.map(|(_, publication)| u64::from(publication.host.count())).sum();
    let mut text = String::with_capacity(1024);
    let mut gauge = |name: &str, help: &str, value: u64| {
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    };
    gauge("netd_ready", "Whether the daemon has converged since its start.", u64::from(ready));
    gauge("netd_networks", "Networks.", networks as u64);
    gauge("netd_containers", "Containers with at least one endpoint.", containers as u64);
    gauge("netd_endpoints", "Containers on networks.", endpoints as u64);
    gauge("netd_reservations", "Reservations.", snapshot.desired.reservations().len() as u64);
    gauge("netd_published_ports", "Host ports that are forwarded to a container; each port of a range counts.", ports);
    gauge("netd_problems", "Current problems.", snapshot.problems.len() as u64);
    let help = "Objects that differ from what netd made and could not be repaired at the last try.";
    gauge("netd_drift", help, repairs.drift());
    gauge("netd_revision", "Changes since the daemon started.", snapshot.revision);
    let help = "What netd repaired because another program had changed it.";
    let mut family = Family::new(&mut text, "netd_repairs_total", "counter", help);
    for (kind, count) in repairs.counts() {
        family.add("", &[("kind", kind)], count);
    }
    let help = "Packets of a container that were dropped because they are not its to send: addresses of others, router \
                advertisements, a DHCP server's answers.";
    let mut family = Family::new(&mut text, "netd_refused_packets_total", "counter", help);
    for endpoint in snapshot.desired.endpoints() {
        if let Some(refused) = snapshot.refused.get(&endpoint.host_ifname) {
            let labels = [("network", endpoint.network.as_str()), ("container", endpoint.container.name.as_str())];
            family.add("", &labels, *refused);
        }
    }
    let name = "netd_build_info";
    let _ = writeln!(text, "# HELP {name} The daemon's version.\n# TYPE {name} gauge");
    let _ = writeln!(text, "{name}{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    text
}
