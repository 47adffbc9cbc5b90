//! Interfaces of the host that networks are on: `Kernel::parent`, and which kinds of interfaces the kernel has.

use std::fs;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{Link, address};
use crate::kernel::netlink::socket::{Netlink, Request, failed};
use crate::kernel::{KernelError, link};
use crate::model::host::parent::{Device, Parent};
use crate::model::names::IfName;

const LOOK: &str = "see `ip -d link`";

/// The interface with that name; `None` if there is none.
pub fn get(netlink: &mut Netlink, name: &IfName) -> Result<Option<Parent>, KernelError> {
    let request = super::get_request(LinkUnspec::new_with_name(name.as_str()));
    let messages = match netlink.one(request) {
        Err(error) if error.errno == libc::ENODEV => return Ok(None),
        outcome => outcome.map_err(failed("look up interface", name, LOOK))?,
    };
    let mut links = messages.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(message) => Some(message),
        _ => None,
    });
    let Some(message) = links.next() else { return Ok(None) };
    let found = Link::read(message);
    let master = found.master.map(|master| link::get_by_index(netlink, master)).transpose()?.flatten();
    let addresses = address::list(netlink, Some(found.index))?;
    Ok(Some(Parent {
        name: name.clone(),
        up: found.up,
        mtu: found.mtu,
        mac: found.mac,
        master: master.and_then(|master| master.name.parse().ok()),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        wireless: is_wireless(name),
        filters_vlans: found.filters_vlans,
        settles: settles(message),
        addresses: addresses.into_iter().map(|found| found.address).collect(),
        kind: found.kind,
    }))
}

/// As udev tells it: the kernel's link messages do not say it.
fn is_wireless(name: &IfName) -> bool {
    let told = fs::read_to_string(format!("/sys/class/net/{name}/uevent")).unwrap_or_default();
    told.lines().any(|line| line == "DEVTYPE=wlan")
}

/// A port listens, and then learns, each as long as the forward delay (IEEE 802.1D, 8.4), which the kernel tells in
/// hundredths of a second.
fn settles(message: &LinkMessage) -> u64 {
    let state = of_bridge(message, |one| match one {
        InfoBridge::StpState(state) => Some(*state),
        _ => None,
    });
    let delay = of_bridge(message, |one| match one {
        InfoBridge::ForwardDelay(delay) => Some(*delay),
        _ => None,
    });
    let is_on = state.is_some_and(|state| state != BridgeStpState::Disabled);
    delay.filter(|_| is_on).map_or(0, |delay| (2 * u64::from(delay)).div_ceil(100))
}

fn of_bridge<T>(message: &LinkMessage, wanted: impl Fn(&InfoBridge) -> Option<T>) -> Option<T> {
    let infos = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let mut data = infos.flatten().filter_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(data)) => Some(data),
        _ => None,
    });
    data.next()?.iter().find_map(wanted)
}

/// Whether the kernel has that kind. The request lacks what it is to be on top of, so nothing is made.
pub fn has_device(netlink: &mut Netlink, device: Device) -> Result<bool, KernelError> {
    let kind = match device {
        Device::Macvlan => InfoKind::MacVlan,
        Device::Ipvlan => InfoKind::IpVlan,
        Device::Vlan => InfoKind::Vlan,
    };
    let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind).name("netd-probe").build();
    match netlink.one(Request::create(RouteNetlinkMessage::NewLink(message))) {
        Err(error) if error.errno == libc::EOPNOTSUPP => Ok(false),
        Err(error) if matches!(error.errno, libc::EINVAL | libc::ENODEV | libc::EPROTONOSUPPORT) => Ok(true),
        Err(error) => Err(failed("look for interfaces of the kind", device.kind(), LOOK)(error)),
        Ok(_) => Ok(true),
    }
}
