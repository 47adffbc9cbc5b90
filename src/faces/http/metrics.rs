//! `GET /metrics`: the Prometheus text format (exposition format 0.0.4), with the numbers of objects from the snapshot
//! and the counters of the name service.

mod dns;
mod relay;
mod text;

use std::collections::{BTreeMap, BTreeSet};
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
use crate::model::desired::Desired;
use crate::model::network::BRIDGE_PORTS;
use crate::model::service::MemberState;

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
    relay::render(&mut text, &shared.handle.telemetry().relays);
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
    free_ports(&mut text, &snapshot.desired);
    members(&mut text, &snapshot.desired);
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
    let help = "Packets that policies have denied, by sender, receiver and port.";
    let mut family = Family::new(&mut text, "netd_denied_packets_total", "counter", help);
    for ((from, to, service), packets) in &snapshot.denied.flows {
        family.add("", &[("from", from), ("to", to), ("service", service)], *packets);
    }
    let name = "netd_build_info";
    let _ = writeln!(text, "# HELP {name} The daemon's version.\n# TYPE {name} gauge");
    let _ = writeln!(text, "{name}{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    text
}

/// How many networks have samples of their own.
const NETWORKS_MOST: usize = 1000;

/// How many containers each bridge of netd has room for: each is a port of it, and so is each reservation.
fn free_ports(text: &mut String, desired: &Desired) {
    let help = "Containers for which the network's bridge has room; of the first 1,000 networks by name.";
    let mut family = Family::new(text, "netd_network_free_ports", "gauge", help);
    for network in desired.networks().filter(|network| network.own_bridge().is_some()).take(NETWORKS_MOST) {
        let used = desired.endpoints_of(&network.name).count() + desired.reservations_of(&network.name).count();
        family.add("", &[("network", network.name.as_str())], BRIDGE_PORTS.saturating_sub(used) as u64);
    }
}

/// How many services have samples of their own: a host may have thousands, with four samples each.
const SERVICES_MOST: usize = 1000;

/// The members of each service, by state; also states that no member has, so that a query finds them. A container on several
/// networks of the service is one member.
fn members(text: &mut String, desired: &Desired) {
    let help = "Members of a service, by state; of the first 1,000 services by name.";
    let mut family = Family::new(text, "netd_service_members", "gauge", help);
    for service in desired.services().take(SERVICES_MOST) {
        let mut states = BTreeMap::from(MemberState::ALL.map(|state| (state, 0_u64)));
        let mut seen = BTreeSet::new();
        for member in desired.members(service).filter(|member| seen.insert(&member.endpoint.container.id)) {
            *states.entry(member.standing.state).or_default() += 1;
        }
        for (state, count) in states {
            family.add("", &[("service", service.name.as_str()), ("state", state.as_str())], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::model::service::Condition;

    #[test]
    fn the_room_of_each_bridge_is_told() {
        let mut desired = Desired::default();
        let mut network = samples::network("net1", &["10.0.0.0/16"]);
        desired.insert_network(network.clone());
        desired.insert_endpoint(samples::endpoint(&network, "w1", 1, &["10.0.0.2"], &[]));
        (network.name, network.driver) = ("quiet".parse().unwrap(), crate::model::network::Driver::Nothing);
        desired.insert_network(network);
        let mut text = String::new();
        free_ports(&mut text, &desired);
        assert!(text.ends_with("\nnetd_network_free_ports{network=\"net1\"} 1022\n"), "{text}");
    }

    #[test]
    fn members_are_counted_by_service_and_state_with_a_bound() {
        let mut desired = Desired::default();
        let network = samples::network("net1", &["10.0.0.0/16"]);
        desired.insert_network(network.clone());
        for (name, address, sequence) in [("w1", "10.0.0.2", 1), ("w2", "10.0.0.3", 2), ("other", "10.0.0.4", 3)] {
            let endpoint = desired.insert_endpoint(samples::endpoint(&network, name, sequence, &[address], &[]));
            if name == "w2" {
                let condition = Condition::new(endpoint.container.id.clone());
                desired.insert_condition(Condition { draining: Some(1), ..condition });
            }
        }
        desired.insert_service(samples::service("front", &[("net1", &[])], &["w1", "w2"]));
        let shown = |desired: &Desired| {
            let mut text = String::new();
            members(&mut text, desired);
            text
        };
        let text = shown(&desired);
        for (state, count) in [("starting", 0), ("ready", 1), ("unhealthy", 0), ("draining", 1)] {
            let line = format!("netd_service_members{{service=\"front\",state=\"{state}\"}} {count}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
        for number in 0..SERVICES_MOST + 5 {
            desired.insert_service(samples::service(&format!("s{number}"), &[("net1", &[])], &[]));
        }
        assert_eq!(shown(&desired).lines().filter(|line| !line.starts_with('#')).count(), 4 * SERVICES_MOST);
    }
}
