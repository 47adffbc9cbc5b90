//! Reservations in the random sequences: made, released, and consumed by containers.

use netd::model::address::Mac;
use netd::model::request::ReservationSpec;

use super::*;

pub(super) const IDS: [&str; 2] = ["r-0", "r-1"];

impl World {
    pub(super) fn reserve(
        &mut self,
        (id, network): (usize, usize),
        port: Option<usize>,
        (ip, mac): (Option<u8>, Option<u8>),
        fail_in: Option<usize>,
    ) -> Result<(), TestCaseError> {
        let handle = self.handle();
        let before = handle.snapshot();
        let address = |last: Option<u8>| {
            let subnet = before.desired.network(&NETWORKS[network].parse().unwrap())?.subnets[0].subnet;
            subnet.address(subnet.bounds().0 + u128::from(last?))
        };
        // Also of an address that netd may assign later, with a MAC address that is derived from it.
        let (asked, mac) = (address(ip), address(mac).map(Mac::for_address));
        let spec = ReservationSpec {
            network: NETWORKS[network].into(),
            id: IDS[id].parse().unwrap(),
            addresses: asked.map(|ip| AddressSpec { ip, prefix: None, gateway: None }).into_iter().collect(),
            mac,
            ports: port.iter().map(|port| PORTS[*port].parse::<PortSpec>().unwrap()).collect(),
            only: None,
            instead: Vec::new(),
        };
        let desired = &before.desired;
        let taken = asked.is_some_and(|ip| is_taken(&before, ip) || desired.at_gateway(ip).is_some());
        let on_it = |other: &str| other == NETWORKS[network];
        let macs = desired.endpoints().map(|e| (e.network.as_str(), e.mac));
        let mut macs = macs.chain(desired.reservations().map(|r| (r.network.as_str(), r.mac)));
        let mac_taken = macs.any(|(on, other)| on_it(on) && Some(other) == mac);
        let may = self.reference.networks.contains(NETWORKS[network])
            && !self.reference.reservations.contains_key(&id)
            && !port.is_some_and(|port| self.reference.ports_collide(port, None))
            && self.reference.used(NETWORKS[network]).1 < 5
            && !taken
            && !mac_taken;
        let done = self.runtime.block_on(handle.reserve(spec)).map(drop);
        self.check(done, may, fail_in)?;
        if self.last_done() {
            self.reference.reservations.insert(id, (network, port));
            let after = handle.snapshot();
            let got = after.desired.reservation(&IDS[id].parse().unwrap()).unwrap();
            if let Some(asked) = asked {
                prop_assert_eq!(got.addresses[0].ip(), asked);
            }
            if let Some(mac) = mac {
                prop_assert_eq!(got.mac, mac);
            }
            if network == sticky::STICKY {
                // No container has its id as its name.
                self.reference.kept.judge(&before, &after, (None, got.addresses[0].ip(), asked.is_some()))?;
            }
        }
        Ok(())
    }

    pub(super) fn release(&mut self, id: usize, fail_in: Option<usize>) -> Result<(), TestCaseError> {
        let done = self.runtime.block_on(self.handle().release_reservation(IDS[id]));
        let may = self.reference.reservations.contains_key(&id);
        self.check(done.map(drop), may, fail_in)?;
        self.reference.reservations.remove(&id);
        Ok(())
    }

    /// Disconnects a container: the reservation has exactly what it had.
    pub(super) fn keep(
        &mut self,
        id: usize,
        (container, network): (usize, usize),
        fail_in: Option<usize>,
    ) -> Result<(), TestCaseError> {
        let handle = self.handle();
        let keep = Some(IDS[id].parse().unwrap());
        let done = handle.disconnect_keeping(NETWORKS[network], CONTAINERS[container], keep);
        let done = self.runtime.block_on(done);
        let had = self.reference.endpoints.get(&(container, network)).copied();
        let may = had.is_some() && !self.reference.reservations.contains_key(&id);
        if let Ok(had) = &done {
            let after = handle.snapshot();
            let kept = after.desired.reservation(&IDS[id].parse().unwrap()).unwrap();
            prop_assert_eq!((&had.addresses, had.mac), (&kept.addresses, kept.mac));
        }
        self.check(done.map(drop), may, fail_in)?;
        if let Some((port, _)) = had.filter(|_| may) {
            self.reference.endpoints.remove(&(container, network));
            self.reference.reservations.insert(id, (network, port));
        }
        Ok(())
    }

    /// Connects a container with a reservation: it has exactly what was reserved.
    pub(super) fn take(
        &mut self,
        id: usize,
        (container, network): (usize, usize),
        fail_in: Option<usize>,
    ) -> Result<(), TestCaseError> {
        let handle = self.handle();
        let before = handle.snapshot();
        let reserved = before.desired.reservation(&IDS[id].parse().unwrap()).cloned();
        let container_ref = ContainerRef { name: CONTAINERS[container].into(), netns: None, id: None };
        let mut spec = person(NETWORKS[network], container_ref);
        let Requester::Person(request) = &mut spec.requester else { unreachable!("made by person") };
        request.reservation = Some(IDS[id].parse().unwrap());
        let of_network = self.reference.reservations.get(&id).filter(|(on, _)| *on == network).copied();
        let may = of_network.is_some() && !self.reference.endpoints.contains_key(&(container, network));
        let done = self.runtime.block_on(handle.connect(spec));
        if let (Ok(got), Some(reserved)) = (&done, &reserved) {
            prop_assert_eq!((&got.addresses, got.mac), (&reserved.addresses, reserved.mac));
            prop_assert_eq!(&got.publications, &reserved.publications);
        }
        self.check(done.map(drop), may, fail_in)?;
        if let (true, Some((_, port)), Some(reserved)) = (self.last_done(), of_network, reserved) {
            self.reference.reservations.remove(&id);
            self.reference.endpoints.insert((container, network), (port, None));
            if network == sticky::STICKY {
                let got = (Some(CONTAINERS[container]), reserved.addresses[0].ip(), true);
                self.reference.kept.judge(&before, &handle.snapshot(), got)?;
            }
        }
        Ok(())
    }
}

/// Whether a container, a reservation or a service has the address.
pub(super) fn is_taken(snapshot: &engine::Snapshot, ip: std::net::IpAddr) -> bool {
    let desired = &snapshot.desired;
    desired.at_address(ip).is_some() || desired.reserved_at(ip).is_some() || desired.service_at(ip).is_some()
}
