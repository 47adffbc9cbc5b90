//! Computes reservations from requests.

use super::endpoint::{Choice, has_room, publish, unreachable};
use super::{address, stacked};
use crate::engine::state::State;
use crate::logic::refusal::Refusal;
use crate::model::Invalid;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::host::observed::HostFacts;
use crate::model::names::{ContainerName, ReservationId};
use crate::model::network::Network;
use crate::model::request::ReservationSpec;
use crate::model::reservation::Reservation;

/// The reservation that a request becomes. Where the network keeps addresses for names, the id is taken for the name of
/// the container to come. `facts` is used only to find free ports.
pub(crate) fn reserve(
    state: &mut State,
    network: &Network,
    requested: &ReservationSpec,
    created: u64,
    (choice, facts): (&Choice, &HostFacts),
) -> Result<Reservation, Refusal> {
    super::takes_endpoints(network)?;
    let id = requested.id.clone();
    super::dhcp::reserves(network, &id)?;
    if state.desired.reservation(&id).is_some() {
        return Err(Refusal::ReservationExists(id));
    }
    has_room(state, network)?;
    let name: Option<ContainerName> = id.as_str().parse().ok();
    let addresses = address::choose(state, network, requested.into(), name.as_ref())?;
    let first = addresses.first().map(ipnetwork::IpNetwork::ip);
    let of_parent = stacked::mac_of_parent(network, choice.parent.as_ref());
    let mac = of_parent.map_or_else(|| address::mac(state, network, requested.mac, first, choice.random), Ok)?;
    let (network_name, publications) = (network.name.clone(), Vec::new());
    let mut reservation = Reservation { id, network: network_name, addresses, mac, publications, created };
    if let Some(port) = requested.ports.first().filter(|_| network.is_routed()) {
        let why =
            "its ports are opened at the container's own address and take none of the host: give them to netd connect";
        let (ports, network) = (port.to_string(), network.name.clone());
        return Err(Refusal::CannotPublish { ports, network, why: why.into() });
    }
    for port in &requested.ports {
        let host_ip = port.host_ip.filter(|_| !port.can_be_proxied());
        // The container may have a way out on another network, but nobody knows the container as yet.
        if let Some(why) = unreachable(network, host_ip, |family| reservation.has_gateway(network, family)) {
            let (ports, network, why) = (port.to_string(), network.name.clone(), why.to_string());
            return Err(Refusal::CannotPublish { ports, network, why });
        }
        super::can_obey(state, network, port)?;
        publish(state, None, port, &mut reservation.publications, (choice, facts))?;
    }
    Ok(reservation)
}

/// The reservation that an endpoint becomes: it has exactly what the endpoint has. `keys`: the endpoints of the container
/// on the network, of which there can be several only if a runtime has attached it.
pub(crate) fn keep(
    state: &State,
    keys: &[EndpointKey],
    id: &ReservationId,
    created: u64,
) -> Result<Reservation, Refusal> {
    if state.desired.reservation(id).is_some() {
        return Err(Refusal::ReservationExists(id.clone()));
    }
    let endpoint = match keys {
        [key] => state.desired.endpoint(key).filter(|endpoint| endpoint.owner.is_none()),
        _ => None,
    };
    let attached =
        || Invalid::new("reservation", id.as_str(), "a runtime attached the container: disconnect it as it is");
    let endpoint = endpoint.ok_or_else(attached)?;
    if let Some(network) = state.desired.network(&endpoint.network) {
        super::dhcp::reserves(network, id)?;
    }
    let Endpoint { network, addresses, mac, publications, .. } = endpoint.as_ref().clone();
    Ok(Reservation { id: id.clone(), network, addresses, mac, publications, created })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::logic::samples;
    use crate::model::address::Mac;
    use crate::model::request::AddressSpec;
    use crate::store::{Record, Stored};

    /// A network with five addresses, and one reservation.
    fn state(change: impl FnOnce(&mut Network)) -> (State, Network) {
        let mut network = samples::network("net1", &["10.0.0.0/29"]);
        change(&mut network);
        let mut state = State::from_stored(Stored { networks: vec![network.clone()], ..Stored::default() });
        let mut first = spec("r1");
        first.ports = vec!["4000:80".parse().unwrap()];
        let reservation = reserved(&mut state, &network, &first).unwrap();
        state.apply(&state.reserve_records(&reservation, &[]).0);
        (state, network)
    }

    fn spec(id: &str) -> ReservationSpec {
        let network = "net1".to_owned();
        let (addresses, ports, instead) = (Vec::new(), Vec::new(), Vec::new());
        ReservationSpec { network, id: id.parse().unwrap(), addresses, only: None, instead, mac: None, ports }
    }

    fn reserved(state: &mut State, network: &Network, spec: &ReservationSpec) -> Result<Reservation, String> {
        let choice = (&Choice::default(), &HostFacts::default());
        reserve(state, network, spec, 7, choice).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn what_is_reserved_is_nobody_elses_and_the_refusal_names_the_reservation() {
        let (mut state, network) = state(|_| {});
        let ip: IpAddr = "10.0.0.2".parse().unwrap();
        assert_eq!(state.desired.reserved_at(ip).unwrap().id.as_str(), "r1");
        let change = |change: fn(&mut ReservationSpec)| {
            let mut spec = spec("r2");
            change(&mut spec);
            spec
        };
        for (spec, words) in [
            (spec("r1"), "reservation r1 already exists: see `netd reservation ls`"),
            (
                change(|spec| {
                    spec.addresses = vec![AddressSpec { ip: [10, 0, 0, 2].into(), prefix: None, gateway: None }];
                }),
                "IP address 10.0.0.2 on network net1 is taken by reservation r1",
            ),
            (
                change(|spec| spec.mac = Some(Mac::for_address([10, 0, 0, 2].into()))),
                "MAC address 02:6e:0a:00:00:02 on network net1 is taken by reservation r1",
            ),
            (
                change(|spec| spec.ports = vec!["127.0.0.1:4000:81".parse().unwrap()]),
                "port 127.0.0.1:4000->81/tcp is already held by reservation r1 (*:4000->80/tcp): see \
                 `netd reservation ls`",
            ),
        ] {
            assert_eq!(reserved(&mut state, &network, &spec).unwrap_err(), words);
        }
        let error = crate::engine::decide::network::remove_network(&state, "net1").unwrap_err().to_string();
        assert_eq!(error, "network net1 is in use by the reservations r1: release them first (`netd reservation rm`)");
    }

    #[test]
    fn addresses_are_assigned_in_order_and_come_last_once_released() {
        let (mut state, network) = state(|_| {});
        let first = state.desired.reservation(&"r1".parse().unwrap()).unwrap().clone();
        for (id, address) in [("r2", "10.0.0.3"), ("r3", "10.0.0.4"), ("r4", "10.0.0.5"), ("r5", "10.0.0.6")] {
            let next = reserved(&mut state, &network, &spec(id)).unwrap();
            assert_eq!(next.addresses[0].ip().to_string(), address);
            state.apply(&state.reserve_records(&next, &[]).0);
        }
        let full = reserved(&mut state, &network, &spec("r6")).unwrap_err();
        assert_eq!(full, "no free IP address is left on network net1 (10.0.0.0/29)");
        assert!(address::any_left(&mut state, &network).is_err(), "a runtime is told so too");
        for id in ["r3", "r1"] {
            let gone = state.desired.reservation(&id.parse().unwrap()).unwrap().clone();
            state.apply(&state.unreserve_records(&gone));
        }
        let next = reserved(&mut state, &network, &spec("r6")).unwrap();
        assert_eq!(next.addresses[0].ip().to_string(), "10.0.0.4", "released first");
        let records = state.reserve_records(&next, &[]);
        assert!(records.0.contains(&Record::DeleteReleased(network.name.clone(), [10, 0, 0, 4].into())));
        state.apply(&records.0);
        state.apply(&records.1);
        let next = reserved(&mut state, &network, &spec("r6")).unwrap();
        assert_eq!(next.addresses, first.addresses, "the failed attempt counts as a use");
    }

    #[test]
    fn a_mac_address_that_somebody_requested_is_not_derived_for_another() {
        let (mut state, network) = state(|_| {});
        let mut requested = spec("r2");
        requested.mac = Some(Mac::for_address([10, 0, 0, 4].into()));
        let second = reserved(&mut state, &network, &requested).unwrap();
        state.apply(&state.reserve_records(&second, &[]).0);
        let third = reserved(&mut state, &network, &spec("r3")).unwrap();
        assert_eq!(third.addresses[0].ip().to_string(), "10.0.0.4");
        assert_ne!(third.mac, second.mac);
    }

    #[test]
    fn an_address_that_is_kept_for_the_name_is_reserved_under_it() {
        let (mut state, network) = state(|network| network.sticky = true);
        let kept = |name: &str, last: u8| {
            Record::PutSticky("net1".parse().unwrap(), [10, 0, 0, last].into(), name.parse().unwrap())
        };
        state.apply(&[kept("web", 5), kept("db", 3)]);
        let address = |state: &mut State, id: &str| reserved(state, &network, &spec(id)).unwrap().addresses[0].ip();
        assert_eq!(address(&mut state, "WEB").to_string(), "10.0.0.5");
        assert_eq!(address(&mut state, "other").to_string(), "10.0.0.4", "not one that is kept for another");
    }

    #[test]
    fn where_a_dhcp_server_gives_the_addresses_nothing_is_reserved_and_nothing_kept() {
        let lan = Network { dhcp: true, ..samples::network("lan", &["192.0.2.0/24"]) };
        let held =
            Endpoint { dhcp: Some(Default::default()), ..samples::endpoint(&lan, "web", 1, &["192.0.2.7"], &[]) };
        let (networks, endpoints) = (vec![lan.clone()], vec![held.clone()]);
        let mut state = State::from_stored(Stored { networks, endpoints, ..Stored::default() });
        let why = "invalid reservation \"r1\": on network lan the DHCP server reserves addresses: give the container's MAC address a \
                   fixed one there";
        assert_eq!(reserved(&mut state, &lan, &spec("r1")).unwrap_err(), why);
        let kept = keep(&state, &[held.key()], &"r1".parse().unwrap(), 7).map_err(|refusal| refusal.to_string());
        assert_eq!(kept.unwrap_err(), why);
    }

    #[test]
    fn ports_need_a_way_out_on_the_network() {
        let (mut state, _) = state(|_| {});
        let inner = Network { internal: true, ..samples::network("inner", &["10.1.0.0/24"]) };
        state.apply(&[Record::PutNetwork(Box::new(inner.clone()))]);
        let mut requested = spec("r2");
        requested.ports = vec!["5000:80".parse().unwrap()];
        let error = reserved(&mut state, &inner, &requested).unwrap_err();
        assert!(error.starts_with("cannot publish 5000:80/tcp on network inner: it is internal"), "{error}");
    }
}
