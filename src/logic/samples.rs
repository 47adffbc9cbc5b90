//! Sample networks, endpoints and entries of the firewall table for the tests of this crate.

use std::path::PathBuf;

use crate::logic::firewall::sets::{Entry, Kind, Set, Value};
use crate::model::address::{Family, Mac, Subnet};
use crate::model::endpoint::{Container, Endpoint, Netns};
use crate::model::host::element::Verdict;
use crate::model::ids::{ContainerId, NetnsId, NetworkId, ServiceId};
use crate::model::network::{Bridge, Driver, HostAccess, Network, NetworkSubnet};
use crate::model::policy::ruling::Edge;
use crate::model::publication::{PortRange, PortSpec, Protocol, Publication};
use crate::model::service::{Mode, Service, ServiceNetwork};

/// A plain network with gateways at the first address of each subnet.
pub fn network(name: &str, subnets: &[&str]) -> Network {
    let subnet = |text: &&str| {
        let subnet: Subnet = text.parse().unwrap();
        let gateway = subnet.address(subnet.bounds().0 + 1).unwrap();
        NetworkSubnet { subnet, gateway: Some(gateway), range: None }
    };
    Network {
        name: name.parse().unwrap(),
        id: NetworkId::from_random([7; 32]),
        driver: Driver::Bridge(Bridge {
            name: format!("nd-{name}").parse().unwrap(),
            icc: true,
            masquerade: true,
            isolated: false,
            routed: false,
            unprotected: false,
            source: Vec::new(),
        }),
        subnets: subnets.iter().map(subnet).collect(),
        internal: false,
        mtu: 1500,
        labels: Default::default(),
        created: 0,
        dns: Default::default(),
        host_access: HostAccess::All,
        sticky: false,
        trusted: false,
        publish: None,
        engines: Vec::new(),
        on_demand: false,
        relay: None,
        egress: Default::default(),
        dhcp: false,
    }
}

/// A container on a network.
pub fn endpoint(network: &Network, name: &str, sequence: u64, addresses: &[&str], ports: &[&str]) -> Endpoint {
    let interface = |text: &&str| {
        let ip = text.parse().unwrap();
        network.subnets.iter().find(|s| s.subnet.contains(ip)).unwrap().subnet.interface(ip)
    };
    let addresses: Vec<_> = addresses.iter().map(interface).collect();
    let publication = |text: &&str| {
        let spec: PortSpec = text.parse().unwrap();
        let (host_ip, host, container) = (spec.host_ip, spec.host.unwrap(), spec.container);
        Publication { host_ip, host, container, protocol: spec.protocol, mode: spec.mode }
    };
    let gateways = addresses.iter().filter_map(|address| network.gateway_for(address.ip())).collect();
    let mut id = [0u8; 32];
    id[..name.len().min(32)].copy_from_slice(&name.as_bytes()[..name.len().min(32)]);
    Endpoint {
        network: network.name.clone(),
        container: Container {
            id: ContainerId::from_random(id),
            name: name.parse().unwrap(),
            netns: Netns {
                path: PathBuf::from(format!("/run/netns/{name}")),
                id: NetnsId { device: 4, inode: u64::from(id[0]) << 8 | u64::from(id[1]), cookie: None },
            },
            scope: None,
            of_engine: false,
        },
        sequence,
        ifname: "eth0".parse().unwrap(),
        host_ifname: format!("ndv-{name}{sequence}").parse().unwrap(),
        mac: Mac::for_address(addresses[0].ip()),
        gateways: if network.internal { Vec::new() } else { gateways },
        addresses,
        aliases: Vec::new(),
        publications: ports.iter().map(publication).collect(),
        skipped: Vec::new(),
        exposed: Vec::new(),
        labels: Default::default(),
        owner: None,
        attached_as: None,
        routes: Vec::new(),
        bandwidth: None,
        learned_mac: None,
        trusted: false,
        upstreams: Vec::new(),
        told_inside: false,
        beside_host: !network.is_behind_host(),
        opened: Vec::new(),
        handover: None,
        egress: Default::default(),
        dhcp: None,
    }
}

/// A service on these networks, whose members are listed by name.
pub fn service(name: &str, networks: &[(&str, &[&str])], members: &[&str]) -> Service {
    let on = |(network, addresses): &(&str, &[&str])| ServiceNetwork {
        network: network.parse().unwrap(),
        aliases: Vec::new(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    };
    Service {
        id: ServiceId::from_name(name),
        name: name.parse().unwrap(),
        networks: networks.iter().map(on).collect(),
        select: Default::default(),
        members: members.iter().map(|member| (*member).to_owned()).collect(),
        mode: Mode::Dns,
        publications: Vec::new(),
        target: None,
        affinity: Default::default(),
        grace: 10,
        health: Default::default(),
        when_none_ready: Default::default(),
        tasks: None,
        previous: None,
        labels: Default::default(),
        created: 0,
        updated: 0,
        version: 1,
        origin: Default::default(),
    }
}

/// One entry of every set and map of the firewall table; together they are whole elements.
pub fn entries() -> Vec<Entry> {
    let entry =
        |set: Set| Entry { set, key: set.key().iter().copied().map(value).collect(), data: set.data().map(value) };
    Set::all().into_iter().map(entry).collect()
}

fn value(kind: Kind) -> Value {
    let address = |text: &str| Value::Address(text.parse().unwrap());
    let subnet = |text: &str| Value::Subnet(text.parse().unwrap());
    match kind {
        Kind::Interface => Value::Interface("nd-sample".parse().unwrap()),
        Kind::Mac => Value::Mac(Mac::for_address("198.51.100.1".parse().unwrap())),
        Kind::Target => Value::Target("2001:db8:5::2".parse().unwrap()),
        Kind::Address(Family::V4) => address("198.51.100.1"),
        Kind::Address(Family::V6) => address("2001:db8:5::1"),
        Kind::Subnet(Family::V4) => subnet("198.51.100.0/24"),
        Kind::Subnet(Family::V6) => subnet("2001:db8:5::/64"),
        Kind::Protocol => Value::Protocol(Protocol::Tcp),
        Kind::Port => Value::Port(7000),
        Kind::Ports => Value::Ports(PortRange::new(7000, 7010).unwrap()),
        Kind::Slot => Value::Slot(5),
        Kind::Edge => Value::Edge(Edge::Outside),
        // It needs no chain, which only one table would have.
        Kind::Verdict => Value::Verdict(Verdict::Accept),
    }
}
