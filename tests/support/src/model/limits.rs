//! Bandwidth limits: on interfaces of the host, and on the intermediate devices.

use std::collections::BTreeMap;

use netd::kernel::fake::World;
use netd::model::bandwidth::{Rate, Shaping};
use netd::model::endpoint::Endpoint;
use netd::model::names::{ContainerName, IfName, NetworkName};
use netd::model::network::Network;

/// What limits what an interface sends, or what it receives: network and container, the rate, and the MTU.
pub(super) type Limit = (NetworkName, ContainerName, Option<Rate>, u32);

/// All limits.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    /// Of what interfaces of the host send.
    pub(super) interfaces: BTreeMap<IfName, Limit>,
    /// Of what they receive: on intermediate devices, by the interface and the device's name.
    pub(super) devices: BTreeMap<(IfName, String), Limit>,
}

/// Those of the endpoint.
pub(super) fn add(network: &Network, endpoint: &Endpoint, limits: &mut Limits) {
    let Some(bandwidth) = endpoint.bandwidth else { return };
    let limit = |rate| (network.name.clone(), endpoint.container.name.clone(), rate, network.mtu);
    limits.interfaces.insert(endpoint.host_ifname.clone(), limit(bandwidth.ingress));
    if bandwidth.egress.is_some() {
        limits.devices.insert(device(&endpoint.host_ifname, None), limit(bandwidth.egress));
    }
}

/// Those of the fake kernel.
pub(super) fn found(world: &World) -> Limits {
    let limit = |s: &Shaping, rate| (s.network.clone(), s.container.clone(), rate, s.mtu);
    let interfaces = world.shapings.iter();
    let devices = world.ifbs.iter();
    Limits {
        interfaces: interfaces.map(|(name, s)| (name.clone(), limit(s, s.bandwidth.ingress))).collect(),
        devices: devices.map(|(name, s)| (device(&s.host_ifname, Some(name)), limit(s, s.bandwidth.egress))).collect(),
    }
}

/// The place of an intermediate device: it is called after its interface. After one with a name of another program it
/// has any name with the prefix.
fn device(host_ifname: &IfName, found: Option<&IfName>) -> (IfName, String) {
    let name = match (host_ifname.as_str().strip_prefix("ndv-"), found) {
        (Some(rest), None) => format!("ndb-{rest}"),
        (None, Some(found)) if !found.as_str().starts_with("ndb-") => found.to_string(),
        (None, _) => "ndb-…".to_owned(),
        (Some(_), Some(found)) => found.to_string(),
    };
    (host_ifname.clone(), name)
}
