//! The settings that resolved must have for each bridge: the servers to ask there, and for which names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::engine::Snapshot;
use crate::model::address::Subnet;
use crate::model::names::{DnsName, IfName};
use crate::model::network::Network;

/// A domain that is not netd's alone: `.internal` is for everyone's private use, and clouds have names in it that the
/// host must still find elsewhere (`metadata.google.internal`, `compute.internal`).
const SHARED: &str = "internal";
/// `LINK_SEARCH_DOMAINS_MAX` and `LINK_DNS_SERVERS_MAX` (systemd, resolved-link.h): resolved refuses longer lists.
const MAX: usize = 256;

/// The settings of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// The gateways at which netd answers.
    pub(super) servers: Vec<IpAddr>,
    /// The domains that are asked for only there, without final dot. They are for routing only: none is searched.
    pub(super) domains: Vec<String>,
}

/// The settings of every bridge with gateways at which netd answers.
pub(super) fn target(snapshot: &Snapshot) -> BTreeMap<IfName, Settings> {
    let mut all: BTreeMap<IfName, Settings> = BTreeMap::new();
    for network in snapshot.desired.networks().filter(|network| network.has_gateways()) {
        let Some(bridge) = network.bridge() else { continue };
        // Two networks of other programs may share a bridge.
        let settings = all.entry(bridge.clone()).or_default();
        add(&mut settings.servers, network.host_gateways());
        add(&mut settings.domains, domains(network, &snapshot.domain));
    }
    all
}

fn add<T: PartialEq>(list: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    for one in more {
        if list.len() < MAX && !list.contains(&one) {
            list.push(one);
        }
    }
}

/// Forward names come first: if there are too many, reverse names are left out.
fn domains(network: &Network, domain: &str) -> Vec<String> {
    let domain = domain.trim_matches('.');
    let own = format!("{}.{domain}", network.name).to_ascii_lowercase();
    let whole = Some(domain.to_owned()).filter(|domain| domain != SHARED);
    // Both together may be too long.
    let forward = [Some(own), whole].into_iter().flatten().filter(|name| name.parse::<DnsName>().is_ok());
    forward.chain(network.subnets.iter().flat_map(|subnet| reverse_zones(subnet.subnet))).collect()
}

/// The reverse zones (RFC 1035, 3.5; RFC 3596, 2.5) that cover the subnet exactly: one, or up to 128 if its prefix ends
/// within a label. A larger zone would direct questions to netd that other servers can answer.
fn reverse_zones(subnet: Subnet) -> Vec<String> {
    let (bits, label, suffix) = match subnet.network() {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 8, "in-addr.arpa"),
        IpAddr::V6(address) => (address.to_bits(), 4, "ip6.arpa"),
    };
    let prefix = u32::from(subnet.prefix());
    let labels = prefix.div_ceil(label);
    let zone = |n: u128| {
        let bits = bits | n.checked_shl(128 - labels * label).unwrap_or(0);
        let part = |index: u32| {
            let part = (bits >> (128 - (index + 1) * label)) & ((1 << label) - 1);
            if label == 8 { format!("{part}.") } else { format!("{part:x}.") }
        };
        (0..labels).rev().map(part).collect::<String>() + suffix
    };
    (0..1u128 << (labels * label - prefix)).map(zone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples::network;
    use crate::model::network::{Adopted, Bridge, Driver};

    #[test]
    fn each_bridge_has_its_gateways_and_its_own_names() {
        let mut snapshot = Snapshot { domain: "internal".into(), ..Snapshot::default() };
        snapshot.desired.insert_network(network("Net1", &["10.77.0.0/24", "fd00:1::/64"]));
        let bridge = Bridge {
            name: "nd-2".parse().unwrap(),
            icc: true,
            masquerade: true,
            isolated: true,
            routed: false,
            unprotected: false,
            source: Vec::new(),
        };
        let isolated = Network { driver: Driver::Bridge(bridge), ..network("isolated", &["10.77.1.0/24"]) };
        snapshot.desired.insert_network(isolated);
        let adopted = Adopted { bridge: None, icc: true, masquerade: true };
        let routed = Network { driver: Driver::Adopted(adopted), ..network("routed", &["10.77.2.0/24"]) };
        snapshot.desired.insert_network(routed);
        let all = target(&snapshot);
        assert_eq!(all.keys().map(IfName::as_str).collect::<Vec<_>>(), ["nd-Net1"], "only where a gateway answers");
        let settings = all.values().next().unwrap();
        assert_eq!(settings.servers, ["10.77.0.1".parse::<IpAddr>().unwrap(), "fd00:1::1".parse().unwrap()]);
        let reverse = "0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(settings.domains, ["net1.internal", "0.77.10.in-addr.arpa", reverse]);
    }

    #[test]
    fn a_domain_of_ours_is_ours_whole() {
        let mut snapshot = Snapshot { domain: "netd".into(), ..Snapshot::default() };
        snapshot.desired.insert_network(network("net1", &["10.0.0.0/8"]));
        let domains = |snapshot: &Snapshot| target(snapshot).into_values().next().unwrap().domains;
        assert_eq!(domains(&snapshot), ["net1.netd", "netd", "10.in-addr.arpa"]);
        snapshot.domain = ["d"; 126].join(".");
        assert_eq!(domains(&snapshot), [snapshot.domain.as_str(), "10.in-addr.arpa"], "what is too long is left out");
    }

    #[test]
    fn reverse_zones_cover_the_subnet_and_nothing_else() {
        let zones = |subnet: &str| reverse_zones(subnet.parse().unwrap());
        assert_eq!(zones("10.77.4.0/23"), ["4.77.10.in-addr.arpa", "5.77.10.in-addr.arpa"]);
        let four = ["8.0.77.10.in-addr.arpa", "9.0.77.10.in-addr.arpa", "10.0.77.10.in-addr.arpa"];
        assert_eq!(zones("10.77.0.8/30")[..3], four);
        assert_eq!(zones("10.77.0.0/25").len(), 128);
        assert_eq!(zones("fd00::/63"), ["0", "1"].map(|n| format!("{n}.{}d.f.ip6.arpa", "0.".repeat(13))));
        assert_eq!(zones("fd00::/62").len(), 4);
    }

    #[test]
    fn resolved_is_not_told_more_than_it_takes() {
        let mut snapshot = Snapshot { domain: "netd".into(), ..Snapshot::default() };
        snapshot.desired.insert_network(network("net1", &["10.0.0.0/25", "10.1.0.0/25", "10.2.0.0/25"]));
        let domains = &target(&snapshot).into_values().next().unwrap().domains;
        assert_eq!((domains.len(), domains[0].as_str(), domains[1].as_str()), (256, "net1.netd", "netd"));
    }
}
