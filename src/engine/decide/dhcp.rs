//! Decides about endpoints whose address a DHCP server gives.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::address::is_free;
use crate::engine::state::State;
use crate::logic::refusal::{LeaseRefusal, Refusal};
use crate::model::Invalid;
use crate::model::address::{Family, Mac};
use crate::model::endpoint::Endpoint;
use crate::model::host::parent::Parent;
use crate::model::lease::{Dhcp, Lease};
use crate::model::names::{ContainerName, ReservationId};
use crate::model::network::Network;
use crate::model::request::{EndpointSpec, InterfaceSource, Requester};

/// Checks that the request leaves the address to the server, if that gives it.
pub(super) fn check(network: &Network, requested: &EndpointSpec) -> Result<(), Refusal> {
    if !network.dhcp {
        return Ok(());
    }
    let refuse = |what, value: String, why: &str| {
        Err(Invalid::new(what, value, format!("on network {} {why}", network.name)).into())
    };
    if let Some(asked) = requested.addresses.first() {
        return refuse("IP address", asked.ip.to_string(), "the DHCP server chooses: give the address there");
    }
    if let Some(range) = requested.ranges.first() {
        return refuse("range of addresses", range.subnet.to_string(), "the DHCP server chooses addresses");
    }
    if let Some(id) = requested.reservation() {
        return refuse("reservation", id.to_string(), "the DHCP server reserves addresses");
    }
    if requested.handover.is_some() {
        return refuse("network", network.name.to_string(), "another engine needs an address before its interface");
    }
    match &requested.requester {
        Requester::Runtime(request) if request.interface != InterfaceSource::Made => {
            refuse("network", network.name.to_string(), "the DHCP server gives addresses, no IPAM plugin")
        }
        Requester::Runtime(_) | Requester::Person(_) => Ok(()),
    }
}

/// Refuses to reserve where the server gives the addresses.
pub(super) fn reserves(network: &Network, id: &ReservationId) -> Result<(), Refusal> {
    if !network.dhcp {
        return Ok(());
    }
    let why = format!(
        "on network {} the DHCP server reserves addresses: give the container's MAC address a fixed one there",
        network.name
    );
    Err(Invalid::new("reservation", id.as_str(), why).into())
}

/// What a new endpoint has of the server: maybe an address to ask for. `parent`: the interface that the network is on.
pub(super) fn begin(
    state: &State,
    network: &Network,
    name: &ContainerName,
    (requested, parent): (&EndpointSpec, Option<&Parent>),
) -> Option<Dhcp> {
    if !network.dhcp {
        return None;
    }
    let former = state.sticky.addresses(&network.name, name).iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    // What is on top of an interface is no port of it.
    let settles = parent.filter(|_| network.bridge().is_some()).map_or(0, |bridge| bridge.settles);
    Some(Dhcp { former, no_default_route: requested.no_default_route, settles, ..Dhcp::default() })
}

/// The MAC address that a container of this name always has on this network of this host, so that the server knows it when it
/// returns (FNV-1a, 32 bits). A network that was restored from a backup of another host has the same id on both, and they may
/// be on one LAN. `None` if another has it.
pub(super) fn mac(state: &State, network: &Network, name: &ContainerName) -> Option<Mac> {
    let parts = [state.instance.as_str(), network.id.as_str(), name.as_str()];
    let bytes = parts.into_iter().flat_map(|part| part.bytes().chain([0]));
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mac = Mac::random(hash);
    let is_taken = state.macs.get(&(network.name.clone(), mac)).is_some_and(|holders| !holders.is_empty());
    (network.dhcp && !is_taken).then_some(mac)
}

/// The endpoint with the lease that its server has granted.
pub(crate) fn leased(
    state: &State,
    network: &Network,
    endpoint: &Endpoint,
    lease: &Lease,
) -> Result<Arc<Endpoint>, Refusal> {
    let address = lease.address.ip();
    if endpoint.address(Family::V4) != Some(address.into()) {
        is_usable(state, network, address)?;
    }
    let before = endpoint.dhcp.clone().unwrap_or_default();
    let leads_out = !network.internal && !before.no_default_route;
    let gateways = lease.gateways().filter(|_| leads_out).collect();
    let addresses = vec![lease.interface()];
    let leaving = leaving(endpoint, Some(lease));
    let dhcp = Some(Dhcp { former: None, lease: Some(lease.clone()), leaving, ..before });
    Ok(Arc::new(Endpoint { addresses, gateways, dhcp, ..endpoint.clone() }))
}

/// Refuses an address that somebody has whom netd knows, or to whom netd may give it.
fn is_usable(state: &State, network: &Network, address: Ipv4Addr) -> Result<(), Refusal> {
    if let Some(other) = state.desired.networks().find(|other| other.subnet_of(address.into()).is_some()) {
        let (network, why) = (network.name.clone(), format!("it lies in a subnet of network {}", other.name));
        return Err(LeaseRefusal::Unusable { network, address, why }.into());
    }
    is_free(state, network, address.into())
}

/// What the refusal of an address that a server has granted means: one that is taken cannot be used.
pub(crate) fn unusable(network: &Network, address: Ipv4Addr, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::AddressTaken { holder, .. } => {
            let (network, why) = (network.name.clone(), format!("{holder} has it"));
            LeaseRefusal::Unusable { network, address, why }.into()
        }
        other => other,
    }
}

/// The leases whose addresses the interface must lose when the endpoint gets another one, or none.
fn leaving(endpoint: &Endpoint, next: Option<&Lease>) -> Vec<Lease> {
    let Some(dhcp) = &endpoint.dhcp else { return Vec::new() };
    let has = dhcp.lease.iter().filter(|_| !endpoint.addresses.is_empty());
    let stays = |lease: &&Lease| next.is_none_or(|next| next.address != lease.address);
    dhcp.leaving.iter().chain(has).filter(stays).cloned().collect()
}

/// The endpoint once its interface has none of its former addresses.
pub(crate) fn changed(endpoint: &Endpoint) -> Endpoint {
    let dhcp = endpoint.dhcp.clone().map(|dhcp| Dhcp { leaving: Vec::new(), ..dhcp });
    Endpoint { dhcp, ..endpoint.clone() }
}

/// Whether the time of the endpoint's lease is over at this time in seconds since the boot.
pub(crate) fn has_ended(endpoint: &Endpoint, now: u64) -> bool {
    let lease = endpoint.dhcp.as_ref().and_then(|dhcp| dhcp.lease.as_ref());
    lease.and_then(Lease::ends).is_some_and(|ends| ends <= now)
}

/// The endpoint after its lease has ended, at this time in seconds since the boot, or before.
pub(crate) fn lost(endpoint: &Endpoint, now: u64) -> Arc<Endpoint> {
    let mut after = Endpoint { addresses: Vec::new(), gateways: Vec::new(), ..endpoint.clone() };
    let leaving = leaving(endpoint, None);
    if let Some(dhcp) = after.dhcp.as_mut() {
        dhcp.leaving = leaving;
    }
    if let Some(lease) = after.dhcp.as_mut().and_then(|dhcp| dhcp.lease.as_mut()) {
        let lasted = u32::try_from(now.saturating_sub(lease.granted)).unwrap_or(Lease::FOREVER - 1);
        lease.seconds = lease.seconds.min(lasted);
    }
    Arc::new(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::store::Stored;

    fn lan() -> Network {
        Network { dhcp: true, ..samples::network("lan", &["192.0.2.0/24"]) }
    }

    #[test]
    fn a_container_has_its_mac_address_on_its_host_and_no_other_host_with_the_same_network_has_it() {
        let on = |instance: &str| State { instance: instance.into(), ..State::from_stored(Stored::default()) };
        let web = |state: &State| mac(state, &lan(), &"web".parse().unwrap()).unwrap();
        assert_eq!(web(&on("one")), web(&on("one")));
        assert_ne!(web(&on("one")), web(&on("two")));
        assert_ne!(Some(web(&on("one"))), mac(&on("one"), &lan(), &"db".parse().unwrap()));
        let mut plain = lan();
        plain.dhcp = false;
        assert_eq!(mac(&on("one"), &plain, &"web".parse().unwrap()), None);
    }

    #[test]
    fn a_former_address_is_noted_until_the_interface_has_changed() {
        let lease = |last: u8| Lease {
            address: format!("192.0.2.{last}/24").parse().unwrap(),
            router: Some([192, 0, 2, 1].into()),
            server: [192, 0, 2, 2].into(),
            server_mac: Mac::random(1),
            granted: 100,
            granted_at: 100,
            seconds: 3600,
            renew: 1800,
            rebind: 3150,
        };
        let network = Network { subnets: Vec::new(), ..lan() };
        let state = State::from_stored(Stored { networks: vec![network.clone()], ..Stored::default() });
        let dhcp = Some(Dhcp::default());
        let made = Endpoint { addresses: Vec::new(), dhcp, ..samples::endpoint(&lan(), "web", 1, &["192.0.2.9"], &[]) };
        let leaving = |endpoint: &Endpoint| -> Vec<String> {
            endpoint.dhcp.iter().flat_map(|dhcp| &dhcp.leaving).map(|lease| lease.address.to_string()).collect()
        };
        let first = leased(&state, &network, &made, &lease(7)).unwrap();
        assert_eq!((leaving(&first), first.addresses[0].to_string()), (Vec::new(), "192.0.2.7/24".into()));
        assert_eq!(first.gateways, [IpAddr::from([192, 0, 2, 1])]);
        let prolonged = leased(&state, &network, &first, &lease(7)).unwrap();
        assert_eq!(leaving(&prolonged), [""; 0]);
        let second = leased(&state, &network, &first, &lease(8)).unwrap();
        assert_eq!(leaving(&second), ["192.0.2.7/24"]);
        assert_eq!(leaving(&leased(&state, &network, &second, &lease(7)).unwrap()), ["192.0.2.8/24"], "it is back");
        assert_eq!(leaving(&lost(&second, 200)), ["192.0.2.7/24", "192.0.2.8/24"]);
        assert_eq!(leaving(&changed(&second)), [""; 0]);
        assert_eq!(lost(&second, 200).dhcp.as_ref().unwrap().lease.as_ref().unwrap().seconds, 100, "it has ended");
        let internal = Network { internal: true, ..network };
        assert_eq!(leased(&state, &internal, &made, &lease(7)).unwrap().gateways, [] as [IpAddr; 0]);
    }
}
