//! How packets to a published port get to the container: translated by the kernel, or passed on by netd.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::v1::{Endpoint, Port};
use crate::model::publication::BOUND_MAX;

/// One way to a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Way {
    /// At which addresses of this host.
    addresses: &'static str,
    /// Who passes packets on: "kernel" or "netd"; `None`: nobody, because another process has the port there.
    by: Option<&'static str>,
    /// What the container sees: "kept" (the client's address; for clients on this host and on the container's own
    /// network that of its gateway), or "gateway".
    client_address: Option<&'static str>,
}

/// The ways to a port of the endpoint. `leads`: whether the container can be reached over IPv4 and over IPv6.
pub(super) fn ways(port: &Port, endpoint: &Endpoint, leads: [bool; 2]) -> Vec<Way> {
    let count = u32::from(port.host_port_end.unwrap_or(port.host_port) - port.host_port) + 1;
    let proxied = port.protocol != "sctp" && count <= BOUND_MAX && leads.contains(&true);
    // Of a runtime's ports, which it may bind itself, netd has at most those at [::].
    let may_hold = |v6: bool| endpoint.owner.is_none() || (v6 && port.host_ip.is_none());
    let by_kernel = |addresses| Some(Way { addresses, by: Some("kernel"), client_address: Some("kept") });
    let by_netd = |addresses: &'static str| {
        let way = match port.unproxied {
            true => Way { addresses, by: None, client_address: None },
            false => Way { addresses, by: Some("netd"), client_address: Some("gateway") },
        };
        (proxied && may_hold(addresses != name(false))).then_some(way)
    };
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
    [false, true].map(|v6| ways.iter().any(|way| way.addresses == name(v6) && way.by.is_some()))
}

/// What a person should know about the ways of all ports; `None` if the kernel passes everything on.
pub(super) fn note<'a>(ways: impl IntoIterator<Item = &'a Way>) -> Option<String> {
    let (others, by_netd): (Vec<&Way>, Vec<&Way>) =
        ways.into_iter().filter(|way| way.by != Some("kernel")).partition(|way| way.by.is_none());
    let at = |ways: Vec<&Way>| {
        let addresses: BTreeSet<&str> = ways.into_iter().map(|way| way.addresses).collect();
        let addresses = addresses.into_iter().collect::<Vec<_>>().join(", ");
        Some(addresses).filter(|addresses| !addresses.is_empty())
    };
    let by_netd =
        at(by_netd).map(|at| format!("By way of netd ({at}) the container sees its gateway, not the client."));
    let others = at(others)
        .map(|at| format!("Another process of this host has ports at {at}, maybe the runtime: see `ss -lntup`."));
    let all: Vec<String> = by_netd.into_iter().chain(others).collect();
    (!all.is_empty()).then(|| all.join("\n"))
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
        let way = |way: &Way| match (way.by, way.client_address) {
            (Some(by), Some(client)) => format!("{} by {by}, {client}", way.addresses),
            _ => format!("{} by nobody", way.addresses),
        };
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
            (
                r#"{"host_ip": null, "protocol": "tcp"}"#,
                Some("cni"),
                v4,
                "IPv4 by kernel, kept; IPv6 by netd, gateway".to_owned(),
            ),
            (
                r#"{"host_ip": null, "protocol": "tcp", "unproxied": true}"#,
                Some("cni"),
                v4,
                "IPv4 by kernel, kept; IPv6 by nobody".to_owned(),
            ),
            (
                r#"{"host_ip": null, "protocol": "tcp"}"#,
                Some("cni"),
                [false, true],
                format!("IPv6 by kernel, kept; {local}"),
            ),
            (r#"{"host_ip": "0.0.0.0", "protocol": "tcp"}"#, Some("cni"), v4, "IPv4 by kernel, kept".to_owned()),
            (r#"{"host_ip": "::1", "protocol": "tcp"}"#, Some("cni"), both, String::new()),
            (r#"{"host_ip": null, "protocol": "tcp"}"#, None, [false, false], String::new()),
        ] {
            let spec = spec.replace('}', r#", "host_port": 4000, "container_port": 80}"#);
            assert_eq!(shown(&spec, owner, leads), expected, "{spec} {owner:?}");
        }
    }
}
