//! Bridges: `Step::AddBridge` and `Step::DeleteBridge`.

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::BridgeStpState;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::{address, route};
use crate::kernel::netlink::socket::{Netlink, Request, failed};
use crate::kernel::sysctl::Sysctl;
use crate::kernel::{KernelError, link};
use crate::model::address::Mac;
use crate::model::host::observed::ObservedKind;
use crate::model::host::step::BridgeLink;

const LOOK: &str = "see `ip -d link`, `ip address` and `dmesg`";

/// Creates the bridge, or makes netd's existing one match the target. On failure, a bridge that was created here is
/// deleted.
pub fn add(netlink: &mut Netlink, sysctl: &Sysctl, bridge: &BridgeLink) -> Result<(), KernelError> {
    let taken = || KernelError::NameTaken { ifname: bridge.name.clone(), within: "the host".into() };
    let created = match link::get(netlink, &bridge.name)? {
        Some(found) if found.ours() && found.kind == ObservedKind::Bridge => false,
        Some(_) => return Err(taken()),
        None => match netlink.one(create(bridge)) {
            Ok(_) => true,
            Err(error) if error.errno == libc::EEXIST => return Err(taken()),
            Err(error) => return Err(failed("create bridge", &bridge.name, LOOK)(error)),
        },
    };
    let done = configure(netlink, sysctl, bridge);
    if done.is_err()
        && created
        && let Err(error) = link::delete(netlink, &[&bridge.name])
    {
        tracing::warn!(%error, "cannot remove a bridge whose setup failed");
    }
    done
}

/// Deletes the bridge; one that does not exist or is not netd's is no error.
pub fn delete(netlink: &mut Netlink, bridge: &BridgeLink) -> Result<(), KernelError> {
    link::delete(netlink, &[&bridge.name])
}

/// Created down, because its settings must be made first. An explicit MAC address stays constant as ports come and go.
fn create(bridge: &BridgeLink) -> Request {
    let mut message = LinkMessageBuilder::<LinkBridge>::new(bridge.name.as_str())
        .stp_state(BridgeStpState::Disabled)
        .link_group(link::LINK_GROUP);
    if let Some(gateway) = bridge.addresses.first() {
        message = message.address(Mac::for_address(gateway.ip()).bytes().to_vec());
    }
    Request::create(RouteNetlinkMessage::NewLink(message.build()))
}

fn configure(netlink: &mut Netlink, sysctl: &Sysctl, bridge: &BridgeLink) -> Result<(), KernelError> {
    let v6 = bridge.addresses.iter().any(IpNetwork::is_ipv6);
    sysctl.prepare_bridge(bridge.name.as_str(), v6)?;
    let index = link::index(&bridge.name)?;
    let present = address::list(netlink, Some(index))?;
    let foreign = present.iter().filter(|found| !address::link_local(found.address.ip()));
    let foreign = foreign.filter(|found| !bridge.addresses.contains(&found.address));
    // The MTU is set by a separate change: one given at creation would follow the smallest port's.
    let change = LinkUnspec::new_with_index(index)
        .mtu(bridge.mtu)
        .alias(format!("netd network {}", bridge.network))
        .link_group(link::LINK_GROUP)
        .up();
    let mut requests: Vec<Request> = foreign.map(|found| address::remove(index, found.address)).collect();
    requests.push(Request::plain(RouteNetlinkMessage::SetLink(change.build())));
    requests.extend(bridge.addresses.iter().map(|gateway| address::add(index, *gateway)));
    netlink.all(&requests).map_err(failed("set up bridge", &bridge.name, LOOK))?;
    bridge.addresses.iter().for_each(|gateway| route::settle_address(netlink, index, gateway.ip()));
    Ok(())
}
