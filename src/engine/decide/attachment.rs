//! Attachments of runtimes: whether an existing one matches a repeated request, how the container is named, and the
//! network of interfaces that another program makes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::network::{host_access, name_is_free};
use crate::engine::state::State;
use crate::logic::refusal::Refusal;
use crate::model::address::{Mac, Subnet};
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::{HostEnd, ObservedInterface};
use crate::model::ids::NetworkId;
use crate::model::names::{ContainerName, IfName, NetworkName};
use crate::model::network::{Adopted, Driver, HostAccess, Network, NetworkSubnet};
use crate::model::publication::{Opened, PortRange, PortSpec, Publication};
use crate::model::request::{AddressSpec, EndpointSpec, InterfaceSource, NetworkSpec, RuntimeRequest};

/// The properties of another program's interface that netd uses.
#[derive(Debug, Clone)]
pub(crate) struct FoundInterface {
    /// The addresses that the runtime reported and the interface has.
    pub(crate) addresses: Vec<IpNetwork>,
    /// The gateway of each of `addresses`; each is an address of the host.
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) mac: Mac,
    pub(crate) mtu: u32,
    pub(crate) host_end: HostEnd,
}

/// Names the first property in which the existing attachment differs from the request; `None` if they match.
pub(crate) fn differs(endpoint: &Endpoint, request: &RuntimeRequest, spec: &EndpointSpec) -> Option<&'static str> {
    let has_name = |name: &str| endpoint.dns_names().iter().any(|own| own.eq_ignore_ascii_case(name));
    let has_address = |ip: IpAddr| endpoint.addresses.iter().any(|address| address.ip() == ip);
    let exact = spec.has_exact_addresses();
    // Addresses that an IPAM plugin assigns through the interface, and their routes, are requested later.
    let later = match request.interface {
        InterfaceSource::Unaddressed => true,
        InterfaceSource::Given => endpoint.addresses.is_empty(),
        // It waits for its DHCP server.
        InterfaceSource::Made => endpoint.awaits_lease(),
        InterfaceSource::Found => false,
    };
    if endpoint.network != request.network.name {
        Some("its network")
    } else if !later
        && (!spec.addresses.iter().all(|asked| has_address(asked.ip))
            || (exact && spec.addresses.len() != endpoint.addresses.len())
            || endpoint.addresses.is_empty())
    {
        Some("its addresses")
    } else if spec.mac.is_some_and(|mac| mac != endpoint.mac) {
        Some("its MAC address")
    } else if !spec.aliases.iter().all(|alias| has_name(alias.as_str())) {
        Some("its aliases")
    } else if !has_ports(endpoint, &spec.ports) {
        Some("its ports")
    } else if spec.exposed != endpoint.exposed {
        Some("its exposed ports")
    } else if spec.labels != endpoint.labels {
        Some("its labels")
    } else if spec.bandwidth != endpoint.bandwidth {
        Some("its limits")
    } else if spec.upstreams != endpoint.upstreams {
        Some("its name servers")
    } else if !later && request.interface != InterfaceSource::Found && spec.routes != endpoint.routes {
        Some("its routes")
    } else {
        None
    }
}

/// Whether the publications and skipped ports of the endpoint are what those ports become.
fn has_ports(endpoint: &Endpoint, ports: &[PortSpec]) -> bool {
    if !endpoint.opened.is_empty() {
        return ports.iter().map(Opened::from).eq(endpoint.opened.iter().copied());
    }
    let is_skipped = |port: &&PortSpec| endpoint.skipped.iter().any(|skipped| skipped.port == **port);
    let (skipped, published): (Vec<_>, Vec<_>) = ports.iter().partition(is_skipped);
    skipped.len() == endpoint.skipped.len() && are_published(&published, &endpoint.publications)
}

/// Whether these publications are what those ports become, in their order.
fn are_published(ports: &[&PortSpec], publications: &[Publication]) -> bool {
    let mut made = publications.iter();
    let mut becomes = |spec: &PortSpec| match spec.host {
        Some(host) if host.count() == spec.container.count() => {
            made.next().is_some_and(|made| same(spec, made) && (made.host, made.container) == (host, spec.container))
        }
        // One port of the range.
        Some(host) => made
            .next()
            .is_some_and(|made| same(spec, made) && made.container == spec.container && host.overlaps(made.host)),
        // One free port for each container port.
        None => spec.container.ports().all(|port| {
            made.next().is_some_and(|made| same(spec, made) && Some(made.container) == PortRange::single(port))
        }),
    };
    ports.iter().copied().all(&mut becomes) && made.next().is_none()
}

fn same(spec: &PortSpec, made: &Publication) -> bool {
    (spec.host_ip, spec.protocol) == (made.host_ip, made.protocol)
}

/// The name that a runtime gives to its container, including the scope; `None` if it gives none.
pub(crate) fn requested_name(request: &RuntimeRequest) -> Result<Option<ContainerName>, Refusal> {
    let Some(name) = &request.name else { return Ok(None) };
    match &request.scope {
        Some(scope) => Ok(Some(format!("{name}.{scope}").parse()?)),
        None => Ok(Some(name.clone())),
    }
}

/// Checks the interface in the container and returns the properties that netd uses. `on_host` reports whether the host
/// has an address.
pub(crate) fn found(
    ifname: &IfName,
    requested: &[AddressSpec],
    seen: ObservedInterface,
    on_host: impl Fn(&IpAddr) -> bool,
) -> Result<FoundInterface, Refusal> {
    let refuse = |why: String| Refusal::CannotAdopt { ifname: ifname.clone(), why };
    let Some(host_end) = seen.host_end else {
        return Err(refuse(
            "it is no veth pair with its other end on the host, so netd cannot lead anything there".into(),
        ));
    };
    let Some(mac) = seen.mac else { return Err(refuse("it has no MAC address".into())) };
    let (mut addresses, mut gateways) = (Vec::new(), Vec::new());
    for asked in requested {
        let has = seen.addresses.iter().find(|address| address.ip() == asked.ip);
        let Some(has) = has else { return Err(refuse(format!("it does not have the address {}", asked.ip))) };
        let Some(gateway) = asked.gateway.filter(&on_host) else {
            let given = asked.gateway.map_or("no gateway".into(), |gateway| format!("the gateway {gateway}"));
            let why =
                format!("{} has {given}, which is no address of the host (isGateway of the bridge plugin)", asked.ip);
            return Err(refuse(why));
        };
        addresses.push(*has);
        gateways.push(gateway);
    }
    if addresses.is_empty() {
        return Err(refuse("no address of it was told".into()));
    }
    Ok(FoundInterface { addresses, gateways, mac, mtu: seen.mtu, host_end })
}

/// The network of interfaces that another program makes; an existing one is returned.
pub(crate) fn adopted_network(
    state: &State,
    spec: &NetworkSpec,
    found: &FoundInterface,
    (id, created): (NetworkId, u64),
) -> Result<Network, Refusal> {
    let bridge = found.host_end.bridge.clone();
    let subnets: Vec<NetworkSubnet> = found
        .addresses
        .iter()
        .zip(&found.gateways)
        .filter_map(|(address, gateway)| {
            let subnet = Subnet::containing(address.ip(), address.prefix())?;
            Some(NetworkSubnet { subnet, gateway: Some(*gateway), range: None })
        })
        .collect();
    if let Some(known) = state.desired.network(&spec.name) {
        let in_use = state.used.contains_key(&known.name);
        let same = known.bridge() == bridge.as_ref() && subnets.iter().all(|subnet| known.subnets.contains(subnet));
        match (&known.driver, same) {
            (Driver::Bridge(_) | Driver::Stacked(_) | Driver::Unmanaged(_) | Driver::Nothing, _) => {
                return Err(Refusal::NotAdopted(known.name.clone()));
            }
            (Driver::Adopted(_), true) => return Ok(known.as_ref().clone()),
            (Driver::Adopted(_), false) if in_use => return Err(Refusal::AdoptedOtherwise(known.name.clone())),
            (Driver::Adopted(_), false) => {}
        }
    } else {
        name_is_free(state, &spec.name)?;
    }
    collides(state, &spec.name, &subnets, found)?;
    let masquerade = spec.masquerade && bridge.is_some();
    let access = match (&bridge, spec.host_access) {
        (Some(_), _) => host_access(spec),
        // A network without a known bridge has no elements in the table.
        (None, None | Some(HostAccess::All)) => HostAccess::All,
        (None, Some(_)) => {
            let why = "it belongs to no bridge, where access to the host could be refused (hostAccess)".into();
            return Err(Refusal::CannotAdopt { ifname: found.host_end.name.clone(), why });
        }
    };
    Ok(Network {
        name: spec.name.clone(),
        id,
        driver: Driver::Adopted(Adopted { bridge, icc: spec.icc, masquerade }),
        subnets,
        internal: spec.internal,
        mtu: found.mtu,
        labels: spec.labels.clone(),
        created,
        dns: spec.dns.clone(),
        host_access: access,
        sticky: spec.sticky,
        trusted: spec.trusted,
        publish: spec.publish,
        engines: Vec::new(),
        on_demand: false,
        relay: None,
        egress: spec.egress.clone(),
        dhcp: false,
    })
}

fn collides(
    state: &State,
    name: &NetworkName,
    subnets: &[NetworkSubnet],
    found: &FoundInterface,
) -> Result<(), Refusal> {
    for other in state.desired.networks().filter(|other| other.name != *name) {
        if let Some(bridge) = found.host_end.bridge.as_ref().filter(|bridge| other.bridge() == Some(bridge)) {
            let holder = format!("network {}", other.name);
            return Err(Refusal::IfNameTaken { ifname: bridge.clone(), holder });
        }
        for subnet in subnets {
            if let Some(held) = other.subnets.iter().find(|held| held.subnet.overlaps(subnet.subnet)) {
                let with = format!("network {} ({})", other.name, held.subnet);
                return Err(Refusal::SubnetOverlap { subnet: subnet.subnet, with });
            }
        }
    }
    Ok(())
}
