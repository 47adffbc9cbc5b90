//! A container's interface that is one end of a veth pair: `Step::Attach`; and `Step::DefaultRoutes`.
//!
//! Order of attaching: the pair is created in one message, down, with the container's end directly in its namespace.
//! Then the host end becomes a hairpin (and isolated) port, in its VLAN only if it has one, and comes up, so that it is
//! never up without being isolated.
//! Then the container's end is brought up and gets its addresses and routes in one send. Only then does the host end
//! enter the group of netd's links: this shows which links a killed daemon left unfinished, and those are recreated.
//! Both ends are settled before it returns.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoPortKind, InfoVeth};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::container::LOOPBACK;
use super::{address, container, route, vlan};
use crate::kernel::netlink::socket::{Netlink, Outcome, Request, failed};
use crate::kernel::netns::Visit;
use crate::kernel::sysctl::Sysctl;
use crate::kernel::{KernelError, link, netns};
use crate::model::endpoint::Netns;
use crate::model::host::step::{DefaultRoute, EndpointLink, LinkKind, VethPair};
use crate::model::names::IfName;
use crate::os::sys;

const LOOK: &str = "see `ip -d link` on the host and in the container, and `dmesg`";

/// Creates the veth pair, assigns its addresses and brings it up; deletes it again on failure.
pub fn attach(host: &mut Netlink, sysctl: &Sysctl, link: &EndpointLink, pair: &VethPair) -> Result<(), KernelError> {
    let namespace = netns::open_exactly(&link.netns)?;
    create(host, link, pair, &namespace)?;
    let done = configure(host, sysctl, (link, pair), namespace);
    if done.is_err()
        && let Err(error) = link::delete(host, &[&pair.host_ifname])
    {
        tracing::warn!(%error, "cannot remove an interface whose setup failed");
    }
    done
}

fn create(host: &mut Netlink, link: &EndpointLink, pair: &VethPair, namespace: &File) -> Result<(), KernelError> {
    let bridge = link::index(&pair.bridge)?;
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(link.ifname.as_str())
        .address(link.mac.bytes().to_vec())
        .mtu(link.mtu)
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let message = LinkVeth::new(pair.host_ifname.as_str(), link.ifname.as_str())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .address(link.mac.of_host_end().bytes().to_vec())
        .controller(bridge)
        .link_group(link::UNFINISHED_GROUP)
        .mtu(link.mtu)
        .build();
    match host.one(Request::create(RouteNetlinkMessage::NewLink(message))) {
        Ok(_) => Ok(()),
        Err(error) if error.errno == libc::EEXIST => Err(match link::get(host, &pair.host_ifname)? {
            Some(_) => KernelError::NameTaken { ifname: pair.host_ifname.clone(), within: "the host".into() },
            None => KernelError::NameTaken { ifname: link.ifname.clone(), within: link.container.to_string() },
        }),
        Err(error) => Err(failed("create veth pair", &pair.host_ifname, LOOK)(error)),
    }
}

fn configure(
    host: &mut Netlink,
    sysctl: &Sysctl,
    (link, pair): (&EndpointLink, &VethPair),
    namespace: File,
) -> Result<(), KernelError> {
    let visit = visit_container(link, namespace)?;
    let outside = set_up_port(host, sysctl, link, pair);
    let (mut inside, index) = visit.end().map_err(failed("enter the namespace of", &link.container, LOOK))?;
    outside?;
    if !netns::same_cookie(&link.netns, &inside) {
        return Err(netns::another(&link.netns));
    }
    set_up_container(&mut inside, link, index)?;
    finish(host, &pair.host_ifname)?;
    settle(host, &pair.host_ifname);
    // The bridge has had a carrier since its first port came up.
    settle(host, &pair.bridge);
    settle(&inside, &link.ifname);
    link.addresses.iter().for_each(|address| route::settle_address(&mut inside, index, address.ip()));
    Ok(())
}

/// Opens a socket in the namespace and writes the settings that only a thread there can write. Returns the interface's
/// index there.
fn visit_container(link: &EndpointLink, namespace: File) -> Result<Visit<(Netlink, u32)>, KernelError> {
    let ifname = link.ifname.clone();
    let v6 = link.addresses.iter().any(IpNetwork::is_ipv6);
    netns::visit(namespace, move || {
        Sysctl::open().prepare_container(ifname.as_str(), v6).map_err(io::Error::other)?;
        Ok((Netlink::open()?, if_nametoindex(ifname.as_str())?))
    })
    .map_err(failed("enter the namespace of", &link.container, LOOK))
}

/// Sets up the host end: no address of its own, hairpin mode (a container can reach its own published port), isolation
/// if requested, then up.
fn set_up_port(host: &mut Netlink, sysctl: &Sysctl, link: &EndpointLink, pair: &VethPair) -> Result<(), KernelError> {
    let name = pair.host_ifname.as_str();
    sysctl.prepare_port(name)?;
    host.all(&port(link, pair)?).map_err(failed("set up bridge port", name, LOOK))
}

/// Comes up last: the kernel applies the port's settings before the flags (rtnl_changelink, net/core/rtnetlink.c).
fn port(link: &EndpointLink, pair: &VethPair) -> Result<Vec<Request>, KernelError> {
    let mut requests = match pair.vlan {
        Some(vlan) => vlan::keep_in(link::index(&pair.host_ifname)?, vlan),
        None => Vec::new(),
    };
    let port = LinkMessageBuilder::<LinkBridgePort>::default()
        .set_port_kind(InfoPortKind::Bridge)
        .hairpin(true)
        .isolated(pair.isolated)
        .name(pair.host_ifname.as_str())
        .alias(link.alias())
        .up()
        .build();
    requests.push(Request::plain(RouteNetlinkMessage::NewLink(port)));
    Ok(requests)
}

/// Restores host ends that exist, all in a few sends. Continues after an error and reports the first one.
pub fn restore_ports(host: &mut Netlink, sysctl: &Sysctl, links: &[EndpointLink]) -> Result<(), KernelError> {
    let mut requests = Vec::new();
    let mut first_error = None;
    let mut of_request: Vec<&VethPair> = Vec::new();
    for link in links {
        let LinkKind::Veth(pair) = &link.kind else { continue };
        let restored = sysctl
            .prepare_port(pair.host_ifname.as_str())
            .and_then(|()| Ok((rejoin(link, pair, link::index(&pair.bridge)?), port(link, pair)?)));
        match restored {
            Ok((rejoin, port)) => {
                requests.push(rejoin);
                requests.extend(port);
                of_request.resize(requests.len(), pair);
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let outcomes = host.send(&requests).map_err(failed("restore", "bridge ports", LOOK))?;
    for (place, outcome) in outcomes.into_iter().enumerate() {
        if let Err(error) = outcome {
            let name = of_request.get(place).map_or("a bridge port", |pair| pair.host_ifname.as_str());
            first_error = first_error.or(Some(failed("restore bridge port", name, LOOK)(error)));
        }
    }
    of_request.dedup();
    for pair in of_request {
        settle(host, &pair.host_ifname);
    }
    first_error.map_or(Ok(()), Err)
}

/// Makes the link a port of the bridge, with the address, MTU and group that netd gave it.
fn rejoin(link: &EndpointLink, pair: &VethPair, bridge: u32) -> Request {
    let link = LinkMessageBuilder::<LinkUnspec>::new()
        .name(pair.host_ifname.as_str())
        .controller(bridge)
        .address(link.mac.of_host_end().bytes().to_vec())
        .mtu(link.mtu)
        .link_group(link::LINK_GROUP)
        .build();
    Request::plain(RouteNetlinkMessage::SetLink(link))
}

pub(super) fn set_up_container(inside: &mut Netlink, link: &EndpointLink, index: u32) -> Result<(), KernelError> {
    let up = |index| Request::plain(RouteNetlinkMessage::SetLink(LinkUnspec::new_with_index(index).up().build()));
    let mut requests = vec![up(LOOPBACK), up(index)];
    requests.extend(link.addresses.iter().map(|address| address::add(index, *address)));
    let set_up = requests.len();
    requests.extend(container::routes(index, link));
    let on = || format!("{} in {}", link.ifname, link.container);
    let mut outcomes = inside.send(&requests).map_err(failed("set up interface", on(), LOOK))?;
    let routes = outcomes.split_off(set_up);
    let refused = outcomes.into_iter().find_map(Result::err);
    refused.map_or(Ok(()), Err).map_err(failed("set up interface", on(), LOOK))?;
    container::judge_routes(inside, index, link, routes)
}

/// Marks the pair as complete.
fn finish(host: &mut Netlink, name: &IfName) -> Result<(), KernelError> {
    let made = LinkMessageBuilder::<LinkUnspec>::new().name(name.as_str()).link_group(link::LINK_GROUP).build();
    host.all(&[Request::plain(RouteNetlinkMessage::SetLink(made))]).map_err(failed("set up interface", name, LOOK))
}

/// If the kernel cannot settle the carrier at once, it does so a moment later.
pub(super) fn settle(socket: &Netlink, ifname: &IfName) {
    if let Err(error) = sys::settle_carrier(socket, ifname.as_str()) {
        tracing::debug!(%ifname, %error, "the interface has no carrier yet");
    }
}

/// Removes and adds default routes in a container. A namespace, route or interface that no longer exists is no error,
/// and neither is a route that exists already.
pub fn change_default_routes(netns: &Netns, remove: &[DefaultRoute], add: &[DefaultRoute]) -> Result<(), KernelError> {
    let namespace = match netns::open_exactly(netns) {
        Err(KernelError::NoNetns { .. }) => return Ok(()),
        opened => opened?,
    };
    let on = netns.path.display();
    let names: Vec<IfName> = remove.iter().chain(add).map(|route| route.ifname.clone()).collect();
    let visit = netns::visit(namespace, move || {
        let indexes: Vec<Result<u32, Errno>> = names.iter().map(|name| if_nametoindex(name.as_str())).collect();
        Ok((Netlink::open()?, indexes))
    });
    let visited = visit.and_then(Visit::end).map_err(failed("enter the namespace", &on, LOOK))?;
    let (mut inside, indexes) = visited;
    if !netns::same_cookie(netns, &inside) {
        return Ok(());
    }
    let (remove_indexes, add_indexes) = indexes.split_at(remove.len());
    let gone = remove.iter().zip(remove_indexes).filter_map(|(route, index)| Some((route, index.ok()?)));
    let mut requests: Vec<Request> =
        gone.map(|(route, index)| route::remove_default(index, route.gateway, route.metric)).collect();
    for (route, index) in add.iter().zip(add_indexes) {
        let index = index.map_err(failed("add the default route over", &route.ifname, LOOK))?;
        requests.push(route::add_default(index, route.gateway, route.metric));
    }
    let outcomes = inside.send(&requests).map_err(failed("change the default routes of", &on, LOOK))?;
    outcomes.into_iter().try_for_each(route_changed).map_err(failed("change the default routes of", &on, LOOK))
}

fn route_changed(outcome: Outcome) -> io::Result<()> {
    match outcome {
        Err(error) if !matches!(error.errno, libc::EEXIST | libc::ESRCH) => Err(error.into()),
        _ => Ok(()),
    }
}
