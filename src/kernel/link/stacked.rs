//! A container's interface on top of one of the host's (macvlan, ipvlan): `Step::Attach`, `Step::Detach` and
//! `Step::DeleteInner`.
//!
//! It is created directly in the container's namespace, down, in the group of unfinished links, and enters the group of
//! netd's links when its addresses and routes are there. Nothing of it is on the host: what a killed daemon left is found
//! by these groups, in all namespaces ([`super::inner`]).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoIpVlan, InfoKind, InfoMacVlan, IpVlanMode, LinkMessage, MacVlanMode};
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{inner, route, veth};
use crate::kernel::netlink::socket::{Netlink, Request, failed};
use crate::kernel::netns::Visit;
use crate::kernel::sysctl::Sysctl;
use crate::kernel::{KernelError, link, netns};
use crate::model::driver::{IpvlanMode, MacvlanMode, StackedMode};
use crate::model::endpoint::Netns;
use crate::model::host::step::{EndpointLink, StackedLink};
use crate::model::names::IfName;

const LOOK: &str = "see `ip -d link` on the host and in the container, and `dmesg`";

/// Creates the interface, assigns its addresses and brings it up; deletes it again on failure.
pub fn attach(host: &mut Netlink, link: &EndpointLink, stacked: &StackedLink) -> Result<(), KernelError> {
    let namespace = netns::open_exactly(&link.netns)?;
    create(host, link, stacked, &namespace)?;
    let done = configure(link, namespace);
    if done.is_err()
        && let Err(error) = delete(&link.netns, &link.ifname)
    {
        tracing::warn!(%error, "cannot remove an interface whose setup failed");
    }
    done
}

fn create(host: &mut Netlink, link: &EndpointLink, stacked: &StackedLink, namespace: &File) -> Result<(), KernelError> {
    let mut message = of_kind(stacked.mode)
        .name(link.ifname.as_str())
        .link(link::index(&stacked.parent)?)
        .mtu(link.mtu)
        .link_group(link::UNFINISHED_GROUP)
        .setns_by_fd(namespace.as_raw_fd());
    if !stacked.mode.has_mac_of_parent() {
        message = message.address(link.mac.bytes().to_vec());
    }
    match host.one(Request::create(RouteNetlinkMessage::NewLink(message.build()))) {
        Ok(_) => Ok(()),
        Err(error) if error.errno == libc::EEXIST => {
            Err(KernelError::NameTaken { ifname: link.ifname.clone(), within: link.container.to_string() })
        }
        Err(error) => {
            // Another program's interfaces on the parent stand in the way of passthru, and of another kind.
            let look = match error.errno {
                libc::EINVAL | libc::EBUSY => "another program may have interfaces on it: see `ip -d link`",
                _ => LOOK,
            };
            let on = format!("{} on {}", stacked.mode, stacked.parent);
            Err(failed("create an interface,", on, look)(error))
        }
    }
}

/// The kind and its mode.
fn of_kind(mode: StackedMode) -> LinkMessageBuilder<LinkUnspec> {
    let (kind, data) = match mode {
        StackedMode::Macvlan(mode) => {
            let mode = match mode {
                MacvlanMode::Bridge => MacVlanMode::Bridge,
                MacvlanMode::Private => MacVlanMode::Private,
                MacvlanMode::Vepa => MacVlanMode::Vepa,
                MacvlanMode::Passthru => MacVlanMode::Passthrough,
            };
            (InfoKind::MacVlan, InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)]))
        }
        StackedMode::Ipvlan(mode) => {
            let mode = match mode {
                IpvlanMode::L2 => IpVlanMode::L2,
                IpvlanMode::L3 => IpVlanMode::L3,
                IpvlanMode::L3s => IpVlanMode::L3S,
            };
            (InfoKind::IpVlan, InfoData::IpVlan(vec![InfoIpVlan::Mode(mode)]))
        }
    };
    LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind).set_info_data(data)
}

/// An interface of that kind on the host itself, without a name as yet.
pub(super) fn on_host(mode: StackedMode, parent: u32) -> LinkMessageBuilder<LinkUnspec> {
    of_kind(mode).link(parent)
}

fn configure(link: &EndpointLink, namespace: File) -> Result<(), KernelError> {
    let ifname = link.ifname.clone();
    let v6 = link.addresses.iter().any(IpNetwork::is_ipv6);
    let visit = netns::visit(namespace, move || {
        Sysctl::open().prepare_container(ifname.as_str(), v6).map_err(io::Error::other)?;
        Ok((Netlink::open()?, if_nametoindex(ifname.as_str())?))
    });
    let entered = visit.and_then(Visit::end).map_err(failed("enter the namespace of", &link.container, LOOK));
    let (mut inside, index) = entered?;
    if !netns::same_cookie(&link.netns, &inside) {
        return Err(netns::another(&link.netns));
    }
    veth::set_up_container(&mut inside, link, index)?;
    let made = LinkUnspec::new_with_index(index).alias(link.alias()).link_group(link::LINK_GROUP).build();
    let on = || format!("{} in {}", link.ifname, link.container);
    inside.all(&[set(made)]).map_err(failed("set up interface", on(), LOOK))?;
    veth::settle(&inside, &link.ifname);
    link.addresses.iter().for_each(|address| route::settle_address(&mut inside, index, address.ip()));
    Ok(())
}

fn set(message: LinkMessage) -> Request {
    Request::plain(RouteNetlinkMessage::SetLink(message))
}

/// Deletes the interface if netd made it. A missing namespace or interface is no error.
pub fn delete(container: &Netns, ifname: &IfName) -> Result<(), KernelError> {
    let namespace = match netns::open_exactly(container) {
        Err(KernelError::NoNetns { .. }) => return Ok(()),
        opened => opened?,
    };
    let on = container.path.display();
    let visit = netns::visit(namespace, Netlink::open);
    let mut inside = visit.and_then(Visit::end).map_err(failed("enter the namespace", &on, LOOK))?;
    if !netns::same_cookie(container, &inside) {
        return Ok(());
    }
    match link::get(&mut inside, ifname)? {
        Some(found) if inner::is_inner(&found) => link::delete(&mut inside, &[ifname]),
        _ => Ok(()),
    }
}
