//! Bridges: `Step::AddBridge` and `Step::DeleteBridge`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::BridgeStpState;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::{address, route};
use crate::kernel::netlink::socket::{Netlink, Request, failed};
use crate::kernel::sysctl::Sysctl;
use crate::kernel::{KernelError, link};
use crate::model::host::observed::ObservedKind;
use crate::model::host::step::BridgeLink;
use crate::model::names::IfName;

const LOOK: &str = "see `ip -d link`, `ip address` and `dmesg`";

/// Creates the bridge, or makes netd's existing one match the target. On failure, a bridge that was created here is
/// deleted.
pub fn add(netlink: &mut Netlink, sysctl: &Sysctl, bridge: &BridgeLink) -> Result<(), KernelError> {
    let taken = || KernelError::NameTaken { ifname: bridge.name.clone(), within: "the host".into() };
    let created = match link::get(netlink, &bridge.name)? {
        Some(found) if found.kind == ObservedKind::Bridge && is_ours(&found, bridge) => false,
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

/// Whether netd made it: another program may have changed its link group, but not its alias too.
fn is_ours(found: &link::Link, bridge: &BridgeLink) -> bool {
    found.ours() || found.alias.as_ref() == Some(&bridge.alias())
}

/// Removes and adds virtual addresses. Missing and existing ones are no errors, and removing from a bridge that is gone
/// is none either.
pub fn change_virtual_addresses(
    netlink: &mut Netlink,
    bridge: &IfName,
    remove: &BTreeSet<IpAddr>,
    add: &BTreeSet<IpAddr>,
) -> Result<(), KernelError> {
    let index = match link::index(bridge) {
        Err(_) if add.is_empty() && link::get(netlink, bridge)?.is_none() => return Ok(()),
        index => index?,
    };
    let gone: Vec<Request> = remove.iter().map(|at| address::remove(index, IpNetwork::from(*at))).collect();
    let outcomes = netlink.send(&gone).map_err(failed("change the addresses of bridge", bridge, LOOK))?;
    let refused = outcomes.into_iter().filter_map(Result::err).find(|error| error.errno != libc::EADDRNOTAVAIL);
    refused.map_or(Ok(()), Err).map_err(failed("remove a virtual address of bridge", bridge, LOOK))?;
    let new: Vec<Request> = add.iter().map(|at| address::add_virtual(index, *at)).collect();
    netlink.all(&new).map(drop).map_err(failed("add a virtual address to bridge", bridge, LOOK))
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
    if let Some(mac) = bridge.mac() {
        message = message.address(mac.bytes().to_vec());
    }
    Request::create(RouteNetlinkMessage::NewLink(message.build()))
}

fn configure(netlink: &mut Netlink, sysctl: &Sysctl, bridge: &BridgeLink) -> Result<(), KernelError> {
    let v6 = bridge.addresses.iter().any(IpNetwork::is_ipv6);
    let index = link::index(&bridge.name)?;
    if v6 && !sysctl.has_ipv6_on(bridge.name.as_str()) {
        // Another program set an MTU below 1280, and IPv6 left the bridge. It comes back with the MTU and with settings
        // by default; on a bridge that is up it would check its link-local address for seconds.
        let change = LinkUnspec::new_with_index(index).down().mtu(bridge.mtu).build();
        let changed = netlink.one(Request::plain(RouteNetlinkMessage::SetLink(change)));
        changed.map_err(failed("set the MTU of bridge", &bridge.name, LOOK))?;
    }
    sysctl.prepare_bridge(bridge.name.as_str(), v6)?;
    let present = address::list(netlink, Some(index))?;
    let present: Vec<IpNetwork> = present.into_iter().map(|found| found.address).collect();
    // The MTU is set by a separate change: one given at creation would follow the smallest port's.
    let mut change =
        LinkUnspec::new_with_index(index).mtu(bridge.mtu).alias(bridge.alias()).link_group(link::LINK_GROUP).up();
    if let Some(mac) = bridge.mac() {
        change = change.address(mac.bytes().to_vec());
    }
    let global: Vec<IpNetwork> = present.iter().filter(|address| !address::link_local(address.ip())).copied().collect();
    let in_the_way = bridge.in_the_way(&global);
    let mut requests: Vec<Request> = in_the_way.map(|address| address::remove(index, *address)).collect();
    requests.push(Request::plain(RouteNetlinkMessage::SetLink(change.build())));
    requests.extend(bridge.addresses.iter().map(|gateway| address::add(index, *gateway)));
    requests.extend(bridge.virtual_addresses.iter().map(|at| address::add_virtual(index, *at)));
    // The kernel makes one when the bridge has its first port, and not again.
    let has_link_local = present.iter().any(|address| address::link_local(address.ip()));
    let link_local = bridge.link_local().filter(|_| !has_link_local);
    requests.extend(link_local.map(|address| address::add(index, address)));
    netlink.all(&requests).map_err(failed("set up bridge", &bridge.name, LOOK))?;
    bridge.addresses.iter().for_each(|gateway| route::settle_address(netlink, index, gateway.ip()));
    let routes: Vec<Request> = bridge.addresses.iter().map(|gateway| route::connect(index, *gateway)).collect();
    let outcomes = netlink.send(&routes).map_err(failed("route to bridge", &bridge.name, LOOK))?;
    // The kernel has made the route with the address, unless another program removed it.
    let refused = outcomes.into_iter().filter_map(Result::err).find(|error| error.errno != libc::EEXIST);
    refused.map_or(Ok(()), Err).map_err(failed("route to bridge", &bridge.name, LOOK))
}
