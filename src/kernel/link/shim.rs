//! The host's own interface on a network of stacked interfaces: `Step::AddShim`, `Step::DeleteShim`, `Step::ShimRoutes`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::LinkUnspec;

use super::{address, container_route, route, stacked};
use crate::kernel::netlink::socket::{Netlink, Request, failed};
use crate::kernel::sysctl::Sysctl;
use crate::kernel::{KernelError, link};
use crate::model::driver::{MacvlanMode, StackedMode};
use crate::model::host::step::ShimLink;
use crate::model::names::IfName;
use crate::model::route::Route;

const LOOK: &str = "see `ip -d link`, `ip address` and `ip route show table all`";

/// Creates the interface, or makes netd's existing one match the target. On failure, one that was created here is
/// deleted.
pub fn add(netlink: &mut Netlink, sysctl: &Sysctl, shim: &ShimLink) -> Result<(), KernelError> {
    let taken = || KernelError::NameTaken { ifname: shim.name.clone(), within: "the host".into() };
    let created = match link::get(netlink, &shim.name)? {
        Some(found) if found.ours() || found.alias.as_ref() == Some(&shim.alias()) => false,
        Some(_) => return Err(taken()),
        None => {
            let parent = link::index(&shim.parent)?;
            let mut message = stacked::on_host(StackedMode::Macvlan(MacvlanMode::Bridge), parent)
                .name(shim.name.as_str())
                .mtu(shim.mtu)
                .link_group(link::LINK_GROUP);
            if let Some(mac) = shim.mac() {
                message = message.address(mac.bytes().to_vec());
            }
            match netlink.one(Request::create(RouteNetlinkMessage::NewLink(message.build()))) {
                Ok(_) => true,
                Err(error) if error.errno == libc::EEXIST => return Err(taken()),
                Err(error) => {
                    let on = format!("{} on {}", shim.name, shim.parent);
                    return Err(failed("create interface", on, LOOK)(error));
                }
            }
        }
    };
    let done = configure(netlink, sysctl, shim);
    if done.is_err()
        && created
        && let Err(error) = link::delete(netlink, &[&shim.name])
    {
        tracing::warn!(%error, "cannot remove an interface whose setup failed");
    }
    done
}

fn configure(netlink: &mut Netlink, sysctl: &Sysctl, shim: &ShimLink) -> Result<(), KernelError> {
    let index = link::index(&shim.name)?;
    let name = shim.name.as_str();
    let v6 = shim.addresses.iter().any(IpAddr::is_ipv6);
    // Routers on the network configure the parent, not this one.
    sysctl.set_where_present(&["ipv6", "conf", name, "accept_ra"], "0")?;
    sysctl.set_where_present(&["ipv6", "conf", name, "disable_ipv6"], if v6 { "0" } else { "1" })?;
    let mut change =
        LinkUnspec::new_with_index(index).mtu(shim.mtu).alias(shim.alias()).link_group(link::LINK_GROUP).up();
    if let Some(mac) = shim.mac() {
        change = change.address(mac.bytes().to_vec());
    }
    let mut requests = vec![Request::plain(RouteNetlinkMessage::SetLink(change.build()))];
    requests.extend(shim.addresses.iter().map(|own| address::add(index, IpNetwork::from(*own))));
    netlink.all(&requests).map_err(failed("set up interface", name, LOOK))?;
    shim.addresses.iter().for_each(|own| route::settle_address(netlink, index, *own));
    let there = single_routes(&container_route::list(netlink, index)?);
    remove_routes(netlink, index, shim, &there.difference(&shim.routes).copied().collect())?;
    add_routes(netlink, index, shim, &shim.routes)
}

/// Those of the routes that lead to one address each.
pub fn single_routes(all: &[Route]) -> BTreeSet<IpAddr> {
    let is_single = |route: &&Route| route.destination.bounds().0 == route.destination.bounds().1;
    let single = all.iter().filter(|route| route.gateway.is_none()).filter(is_single);
    single.map(|route| route.destination.network()).collect()
}

/// Removes and adds routes. Missing and existing ones are no errors, and removing from one that is gone is none either.
pub fn change_routes(
    netlink: &mut Netlink,
    shim: &ShimLink,
    remove: &BTreeSet<IpAddr>,
    add: &BTreeSet<IpAddr>,
) -> Result<(), KernelError> {
    let index = match link::index(&shim.name) {
        Err(_) if add.is_empty() && link::get(netlink, &shim.name)?.is_none() => return Ok(()),
        index => index?,
    };
    remove_routes(netlink, index, shim, remove)?;
    add_routes(netlink, index, shim, add)
}

fn remove_routes(
    netlink: &mut Netlink,
    index: u32,
    shim: &ShimLink,
    remove: &BTreeSet<IpAddr>,
) -> Result<(), KernelError> {
    let gone = |to: &IpAddr| Request::plain(RouteNetlinkMessage::DelRoute(any_to(index, *to)));
    let outcomes = netlink.send(&remove.iter().map(gone).collect::<Vec<_>>());
    let outcomes = outcomes.map_err(failed("change the routes over", &shim.name, LOOK))?;
    let refused = outcomes.into_iter().filter_map(Result::err).find(|error| error.errno != libc::ESRCH);
    refused.map_or(Ok(()), Err).map_err(failed("remove a route over", &shim.name, LOOK))
}

/// Deletes it; one that does not exist or is not netd's is no error.
pub fn delete(netlink: &mut Netlink, name: &IfName) -> Result<(), KernelError> {
    link::delete(netlink, &[name])
}

fn add_routes(netlink: &mut Netlink, index: u32, shim: &ShimLink, to: &BTreeSet<IpAddr>) -> Result<(), KernelError> {
    let add = |to: &IpAddr| Request::replace(RouteNetlinkMessage::NewRoute(message(index, shim, *to)));
    let all: Vec<Request> = to.iter().map(add).collect();
    netlink.all(&all).map(drop).map_err(failed("add a route over", &shim.name, LOOK))
}

/// Any route to one address over the interface, whoever made it.
fn any_to(index: u32, to: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = route::family(to);
    message.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.scope = RouteScope::NoWhere;
    message.attributes = vec![RouteAttribute::Destination(to.into()), RouteAttribute::Oif(index)];
    message
}

/// The route to one address, from the host's own on the network.
fn message(index: u32, shim: &ShimLink, to: IpAddr) -> RouteMessage {
    let mut message = any_to(index, to);
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = if to.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.attributes.extend(shim.source_for(to).map(|source| RouteAttribute::PrefSource(source.into())));
    message
}
