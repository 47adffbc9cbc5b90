//! How packets to a published port get to the container: translated by the kernel, or passed on by netd.

use std::net::IpAddr;

use serde::Serialize;

use crate::api::v1::{Endpoint, Port};
use crate::model::publication::BOUND_MAX;

/// One way to a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Way {
    /// At which addresses of this host.
    addresses: &'static str,
    /// Who passes packets on: "kernel" or "netd".
    by: &'static str,
    /// What the container sees: "kept" (the client's address; for clients on this host and on the container's own
    /// network that of its gateway), or "gateway".
    client_address: &'static str,
}

/// The ways to a port of the endpoint. `leads`: whether the container can be reached over IPv4 and over IPv6.
pub(super) fn ways(port: &Port, endpoint: &Endpoint, leads: [bool; 2]) -> Vec<Way> {
    let count = u32::from(port.host_port_end.unwrap_or(port.host_port) - port.host_port) + 1;
    // netd has no sockets at the ports of runtimes, which may hold them themselves.
    let proxied = endpoint.owner.is_none() && port.protocol != "sctp" && count <= BOUND_MAX && leads.contains(&true);
    let by_kernel = |addresses| Some(Way { addresses, by: "kernel", client_address: "kept" });
    let by_netd = |addresses| proxied.then_some(Way { addresses, by: "netd", client_address: "gateway" });
    let of = |v6: bool| if leads[usize::from(v6)] { by_kernel(name(v6)) } else { by_netd(name(v6)) };
    let local = || if leads[1] { by_netd("::1 and link-local") } else { None };
    let all = match port.host_ip {
        None => vec![of(false), of(true), local()],
        Some(IpAddr::V6(ip)) if ip.is_unspecified() => vec![of(true), local()],
        Some(IpAddr::V6(ip)) if ip.is_loopback() || ip.is_unicast_link_local() => vec![by_netd("IPv6")],
        Some(ip) => vec![of(ip.is_ipv6())],
    };
    all.into_iter().flatten().collect()
}

fn name(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

/// Over which families other hosts can reach it.
pub(super) fn families(ways: &[Way]) -> [bool; 2] {
    [false, true].map(|v6| ways.iter().any(|way| way.addresses == name(v6)))
}

/// What a person should know about the ways of all ports; `None` if the kernel passes everything on.
pub(super) fn note<'a>(ways: impl IntoIterator<Item = &'a Way>) -> Option<String> {
    let mut by_netd: Vec<&str> = ways.into_iter().filter(|way| way.by == "netd").map(|way| way.addresses).collect();
    by_netd.sort_unstable();
    by_netd.dedup();
    let at = by_netd.join(", ");
    (!at.is_empty()).then(|| format!("By way of netd ({at}) the container sees its gateway, not the client."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(spec: &str, owner: Option<&str>, leads: [bool; 2]) -> String {
        let web = serde_json::json!({
            "network": "net1", "container": {"id": "c", "name": "web"}, "netns": "/run/netns/web", "ifname": "eth0",
            "host_ifname": "ndv-web", "addresses": [], "gateways": [], "mac": "02:00:00:00:00:01", "aliases": [],
            "ports": [serde_json::from_str::<serde_json::Value>(spec).unwrap()], "owner": owner});
        let web: Endpoint = serde_json::from_value(web).unwrap();
        let way = |way: &Way| format!("{} by {}, {}", way.addresses, way.by, way.client_address);
        ways(&web.ports[0], &web, leads).iter().map(way).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn each_way_says_who_passes_on_and_what_the_container_sees() {
        let (v4, both) = ([true, false], [true, true]);
        let local = "::1 and link-local by netd, gateway";
        for (spec, owner, leads, expected) in [
            (
                r#"{"host_ip": null, "protocol": "tcp"}"#,
                None,
                v4,
                "IPv4 by kernel, kept; IPv6 by netd, gateway".to_owned(),
            ),
            (
                r#"{"host_ip": null, "protocol": "tcp"}"#,
                None,
                both,
                format!("IPv4 by kernel, kept; IPv6 by kernel, kept; {local}"),
            ),
            (r#"{"host_ip": "::1", "protocol": "udp"}"#, None, v4, "IPv6 by netd, gateway".to_owned()),
            (r#"{"host_ip": "192.0.2.1", "protocol": "tcp"}"#, None, both, "IPv4 by kernel, kept".to_owned()),
            (r#"{"host_ip": null, "protocol": "sctp"}"#, None, v4, "IPv4 by kernel, kept".to_owned()),
            (
                r#"{"host_ip": null, "protocol": "udp", "host_port_end": 4016}"#,
                None,
                v4,
                "IPv4 by kernel, kept".to_owned(),
            ),
            (r#"{"host_ip": null, "protocol": "tcp"}"#, Some("cni"), v4, "IPv4 by kernel, kept".to_owned()),
            (r#"{"host_ip": null, "protocol": "tcp"}"#, None, [false, false], String::new()),
        ] {
            let spec = spec.replace('}', r#", "host_port": 4000, "container_port": 80}"#);
            assert_eq!(shown(&spec, owner, leads), expected, "{spec} {owner:?}");
        }
    }
}
