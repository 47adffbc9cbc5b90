//! What a command that failed must not leave behind: addresses that no container has and none can get, and records.

use ipnetwork::IpNetwork;
use netd::engine::ErrorKind;
use netd::model::address::Subnet;
use netd::model::network::Network;
use netd::model::request::AttachmentKey;

use crate::judge::Judge;
use crate::lab::Lab;

/// The containers that a subnet of the tests' pool has addresses for.
const ADDRESSES: usize = 5;

/// Containers can be connected until every address of every network is in use.
pub(crate) fn all_can_be_assigned(lab: &mut Lab, judge: &mut Judge) -> Result<(), String> {
    let networks: Vec<_> = lab.snapshot().desired.networks().cloned().collect();
    for network in networks.iter().filter(|network| network.makes_interfaces()) {
        let Some(subnet) = network.subnets.iter().map(|subnet| subnet.subnet).find(|subnet| subnet.prefix() == 29)
        else {
            continue;
        };
        for filler in 0..=ADDRESSES + 1 {
            let name = format!("filler{filler}");
            lab.fake.add_namespace(&name);
            match lab.connect(network.name.as_str(), &name, &[]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Exhausted => break,
                Err(error) => return Err(format!("network {} cannot be filled: {error}", network.name)),
            }
        }
        let used = addresses(lab, subnet);
        // Without a gateway and an address of the host, there is one more.
        let room = ADDRESSES + usize::from(!network.subnets.iter().any(|subnet| has_own(network, subnet.subnet)));
        if used != room {
            return Err(format!("network {} is full with {used} addresses", network.name));
        }
    }
    judge.none("with all addresses in use", crate::drive::differences_and_problems(lab))
}

/// Whether the host or a router has an address of the subnet.
fn has_own(network: &Network, subnet: Subnet) -> bool {
    let (low, high) = subnet.bounds();
    (low..=high).filter_map(|at| subnet.address(at)).any(|address| network.is_reserved(address))
}

fn addresses(lab: &Lab, subnet: Subnet) -> usize {
    let snapshot = lab.snapshot();
    let all = snapshot.desired.endpoints().flat_map(|endpoint| &endpoint.addresses);
    let all = all.chain(snapshot.desired.reservations().flat_map(|reservation| &reservation.addresses));
    let of_services = snapshot.desired.services().flat_map(|service| service.addresses());
    all.map(IpNetwork::ip).chain(of_services).filter(|address| subnet.contains(*address)).count()
}

/// Everything can be removed, and nothing stays.
pub(crate) fn all_can_be_removed(lab: &mut Lab, judge: &mut Judge) -> Result<(), String> {
    let endpoints: Vec<_> = lab.snapshot().desired.endpoints().cloned().collect();
    for endpoint in endpoints {
        let container = endpoint.runtime_id().clone();
        let removed = match endpoint.owner.clone() {
            Some(owner) => lab.detach(AttachmentKey { owner, container, ifname: endpoint.ifname.clone() }),
            None => lab.disconnect(endpoint.network.as_str(), endpoint.container.name.as_str()),
        };
        removed.map_err(|error| format!("{} cannot be removed: {error}", endpoint.host_ifname))?;
    }
    let reservations: Vec<_> = lab.snapshot().desired.reservations().cloned().collect();
    for reservation in reservations {
        let released = lab.release(reservation.id.as_str());
        released.map_err(|error| format!("reservation {} cannot be released: {error}", reservation.id))?;
    }
    let services: Vec<_> = lab.snapshot().desired.services().cloned().collect();
    for service in services {
        let removed = lab.remove_service(service.name.as_str());
        removed.map_err(|error| format!("service {} cannot be removed: {error}", service.name))?;
    }
    lab.prune().map_err(|error| format!("the networks cannot be removed: {error}"))?;
    judge.none("without networks", crate::drive::differences_and_problems(lab))?;
    let stored = lab.store.stored();
    let left = (stored.networks.len(), stored.endpoints.len(), stored.released.len(), stored.sticky.len());
    let of_services = (stored.services.len(), stored.conditions.len());
    if left == (0, 0, 0, 0) && stored.reservations.is_empty() && of_services == (0, 0) {
        Ok(())
    } else {
        Err(format!("left in the store: {left:?}, {of_services:?}"))
    }
}
