//! Addresses of interfaces: messages, and the kernel's list.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::AddressMessageBuilder;

use crate::kernel::KernelError;
use crate::kernel::netlink::socket::{Netlink, Request, failed};

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Index of the interface.
    pub index: u32,
    /// Address with its prefix.
    pub address: IpNetwork,
}

/// Adds an address that is usable at once, without duplicate address detection; an existing one is no error.
pub fn add(index: u32, address: IpNetwork) -> Request {
    let mut message = message(index, address);
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Request::replace(RouteNetlinkMessage::NewAddress(message))
}

/// Adds an address without a subnet, which answers like any other but is the source of nothing that the host sends.
pub fn add_virtual(index: u32, address: IpAddr) -> Request {
    let mut message = message(index, IpNetwork::from(address));
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        // Deprecated (RFC 4862, 5.5.4).
        let mut times = CacheInfo::default();
        (times.ifa_preferred, times.ifa_valid) = (0, u32::MAX);
        message.attributes.push(AddressAttribute::CacheInfo(times));
    }
    Request::replace(RouteNetlinkMessage::NewAddress(message))
}

/// Removes an address.
pub fn remove(index: u32, address: IpNetwork) -> Request {
    Request::plain(RouteNetlinkMessage::DelAddress(message(index, address)))
}

fn message(index: u32, address: IpNetwork) -> AddressMessage {
    match address {
        IpNetwork::V4(v4) => {
            AddressMessageBuilder::<std::net::Ipv4Addr>::new().index(index).address(v4.ip(), v4.prefix()).build()
        }
        IpNetwork::V6(v6) => {
            AddressMessageBuilder::<std::net::Ipv6Addr>::new().index(index).address(v6.ip(), v6.prefix()).build()
        }
    }
}

/// The addresses of one interface, or of all (`None`), including IPv6 link-local ones.
pub fn list(netlink: &mut Netlink, index: Option<u32>) -> Result<Vec<InterfaceAddress>, KernelError> {
    let mut message = AddressMessage::default();
    message.header.index = index.unwrap_or(0);
    // Kernels before 4.20 ignore the filter.
    let is_asked = |address: &InterfaceAddress| index.is_none_or(|index| address.index == index);
    let addresses = netlink.dump(&RouteNetlinkMessage::GetAddress(message), |message| match message {
        RouteNetlinkMessage::NewAddress(message) => read(&message).filter(is_asked),
        _ => None,
    });
    addresses.map_err(failed("list", "addresses", "see `ip address`"))
}

/// For a point-to-point address this is the local end, where `IFA_LOCAL` differs from `IFA_ADDRESS`.
pub(in crate::kernel) fn read(message: &AddressMessage) -> Option<InterfaceAddress> {
    let mut address: Option<IpAddr> = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(other) => address = address.or(Some(*other)),
            _ => {}
        }
    }
    let address = IpNetwork::new(address?, message.header.prefix_len).ok()?;
    Some(InterfaceAddress { index: message.header.index, address })
}

/// Whether it is a link-local address, which the kernel assigns itself (`fe80::/10`, RFC 4291, 2.5.6).
pub fn link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
