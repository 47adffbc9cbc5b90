//! The sets and maps of netd's tables, described once: name, types of key and data, purpose, and the [`Element`] that is in
//! them. Everything else works from this description: the declarations, the entries of an element in both directions,
//! JSON for `nft`, netlink attributes, and the samples of the tests.

mod decode;
mod describe;
mod purpose;
mod values;

pub use self::decode::elements;
use self::describe::describe;
use self::purpose::Purpose;
pub use self::values::{Kind, Value};
use crate::model::address::Family;
use crate::model::host::element::{
    EdgePair, EdgePort, EgressTo, EgressToPorts, Element, NameServer, Pair, PairPort, PortSlot, Published,
    PublishedRange, ServicePort, Slots, Table, VipSlot,
};

describe! {
    once:

    Element::Bridge(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges of netd.
        Bridges "bridges";
    }
    Element::Direct(interface) as [Interface(interface)], for Interfaces {
        /// Host interfaces that lead to one container without a bridge.
        Direct "direct";
    }
    Element::Internal(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges of internal networks, from which nobody reaches strict ports.
        Internal "internal";
    }
    Element::Leaving(bridge, verdict) as [Interface(bridge)], for Interfaces {
        /// Bridges, internal or with policies, to the chain for what leaves them.
        Leaving "leaving": Verdict(verdict);
    }
    Element::Entering(bridge, verdict) as [Interface(bridge)], for Interfaces {
        /// Bridges, internal or with policies, to the chain for what enters them.
        Entering "entering": Verdict(verdict);
    }
    Element::Isolated(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges on which the host has no address.
        Isolated "isolated";
    }
    Element::ToHost(bridge, verdict) as [Interface(bridge)], for Interfaces {
        /// Bridges to the chain for what they send to the host: it is closed to them, or they have policies.
        ToHost "to_host": Verdict(verdict);
    }
    Element::FromHost(bridge, verdict) as [Interface(bridge)], for Interfaces {
        /// Bridges with policies to the chain for what the host sends to them.
        FromHost "from_host": Verdict(verdict);
    }
    Element::PortsClosed(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges from which published ports are unreachable at the host's addresses.
        PortsClosed "ports_closed";
    }
    Element::Allowed(from, to) as [Interface(from), Interface(to)], for Interfaces {
        /// (in, out) bridges between which traffic may be forwarded.
        Allowed "allowed";
    }
    Element::Within(from, to) as [Interface(from), Interface(to)], for Interfaces {
        /// (in, out) bridges between which traffic may be forwarded unless a policy denies it.
        Within "within";
    }
    Element::Routed(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges whose containers are reached at their own addresses where their ports are open.
        Routed "routed";
    }
    Element::Unprotected(bridge) as [Interface(bridge)], for Interfaces {
        /// Bridges whose containers are reached at their own addresses.
        Unprotected "unprotected";
    }
    Element::Guarded(interface) as [Interface(interface)], for Guard {
        /// Host ends of containers that may send from their own addresses only.
        Guarded "guarded";
    }
    Element::Target(interface, address) as [Interface(interface), Target(address)], for Guard {
        /// (host end, address of its container), for comparison with the target of neighbour discovery.
        Targets "targets6";
    }
    Element::Mac(interface, mac) as [Interface(interface), Mac(mac)], for Guard {
        /// (host end, MAC address of its container).
        Macs "macs";
    }

    Element::EgressMac(mac) as [Mac(mac)], for Policies {
        /// MAC addresses of containers that send only what is allowed.
        EgressMacs "egress_macs";
    }
    Element::Uplink(Family::V4, interface) as [Interface(interface)], for Interfaces {
        /// Interfaces between which no IPv4 is forwarded.
        Uplinks4 "uplinks4";
    }
    Element::Uplink(Family::V6, interface) as [Interface(interface)], for Interfaces {
        /// Interfaces between which no IPv6 is forwarded.
        Uplinks6 "uplinks6";
    }
    Element::Strict(Family::V4, protocol, ports) as [Protocol(protocol), Ports(ports)], for Published {
        /// (protocol, ports) about which the host's own input rules decide, for IPv4.
        Strict4 "strict4";
    }
    Element::Strict(Family::V6, protocol, ports) as [Protocol(protocol), Ports(ports)], for Published {
        /// (protocol, ports) about which the host's own input rules decide, for IPv6.
        Strict6 "strict6";
    }
    Element::ServicePort(ServicePort { family: Family::V4, protocol, port, to_port })
        as [Protocol(protocol), Port(port)], for Services
    {
        /// (protocol, port) of a service to the port of its members, for IPv4.
        ServicePorts4 "service_ports4": Port(to_port);
    }
    Element::ServicePort(ServicePort { family: Family::V6, protocol, port, to_port })
        as [Protocol(protocol), Port(port)], for Services
    {
        /// (protocol, port) of a service to the port of its members, for IPv6.
        ServicePorts6 "service_ports6": Port(to_port);
    }
    Element::StrictService(Family::V4, protocol, port) as [Protocol(protocol), Port(port)], for Services {
        /// (protocol, port) of a service about which the host's own input rules decide, for IPv4.
        ServiceStrict4 "service_strict4";
    }
    Element::StrictService(Family::V6, protocol, port) as [Protocol(protocol), Port(port)], for Services {
        /// (protocol, port) of a service about which the host's own input rules decide, for IPv6.
        ServiceStrict6 "service_strict6";
    }

    per family:

    Element::Masquerade(subnet) as [Subnet(subnet)], of subnet.family(), for SourceNat {
        /// Source subnets that get the host's address.
        Masquerade "masquerade4" "masquerade6";
    }
    Element::Hairpin(subnet) as [Subnet(subnet), Subnet(to)] where to == subnet, of subnet.family(), for SourceNat {
        /// (source, destination) subnets between which published traffic gets the gateway's address.
        Hairpin "hairpin4" "hairpin6";
    }
    Element::Outbound(subnet, source) as [Subnet(subnet)], of subnet.family(), for SourceNat {
        /// Source subnets to the address that they get instead.
        Outbound "outbound4" "outbound6": Address(source);
    }
    Element::Opened(to, protocol, ports)
        as [Address(to), Protocol(protocol), Ports(ports)], of Family::of(to), for Interfaces
    {
        /// (container address, protocol, ports) that are reached as they are.
        Opened "opened4" "opened6";
    }
    Element::Publish(Published { host_ip: None, protocol, port, to, to_port })
        as [Protocol(protocol), Port(port)], of Family::of(to), for Published
    {
        /// (protocol, port) to container address.
        Publish "publish4" "publish6": Address(to);
        /// (protocol, port) to container port.
        PublishPort "publish4_port" "publish6_port": Port(to_port);
    }
    Element::Publish(Published { host_ip: Some(host_ip), protocol, port, to, to_port })
        as [Address(host_ip), Protocol(protocol), Port(port)], of Family::of(to), for PublishedAtAddress
    {
        /// (host address, protocol, port) to container address.
        PublishAt "publish4_at" "publish6_at": Address(to);
        /// (host address, protocol, port) to container port.
        PublishAtPort "publish4_at_port" "publish6_at_port": Port(to_port);
    }
    Element::PublishRange(PublishedRange { host_ip: None, protocol, ports, to })
        as [Protocol(protocol), Ports(ports)], of Family::of(to), for Published
    {
        /// (protocol, ports) to container address; the port stays.
        PublishRange "publish4_range" "publish6_range": Address(to);
    }
    Element::PublishRange(PublishedRange { host_ip: Some(host_ip), protocol, ports, to })
        as [Address(host_ip), Protocol(protocol), Ports(ports)], of Family::of(to), for PublishedAtAddress
    {
        /// (host address, protocol, ports) to container address; the port stays.
        PublishAtRange "publish4_at_range" "publish6_at_range": Address(to);
    }
    Element::StrictAt(address, protocol, ports)
        as [Address(address), Protocol(protocol), Ports(ports)], of Family::of(address), for PublishedAtAddress
    {
        /// (host address, protocol, ports) about which the host's own input rules decide.
        StrictAt "strict4_at" "strict6_at";
    }
    Element::AskAt(NameServer { gateway, port }) as [Address(gateway)], of Family::of(gateway), for NameService {
        /// Gateway to the port of the name service there.
        Dns "dns4" "dns6": Port(port);
    }
    Element::AnswerFrom(NameServer { gateway, port })
        as [Address(gateway), Port(port)], of Family::of(gateway), for NameService
    {
        /// (gateway, port) from which the name service answers.
        DnsFrom "dns4_from" "dns6_from";
    }
    Element::Source(interface, address, verdict)
        as [Interface(interface), Address(address)], of Family::of(address), for Guard
    {
        /// (host end, address of its container) to the chain for what it sends from there.
        Sources "sources4" "sources6": Verdict(verdict);
    }
    Element::Receiver(subnet, address) as [Subnet(subnet), Address(address)], of subnet.family(), for Guard {
        /// (subnet of a network with policies, address of a container on it).
        Receivers "receivers4" "receivers6";
    }
    Element::Policed(address) as [Address(address)], of Family::of(address), for Guard {
        /// Addresses of containers on networks with policies.
        Policed "policed4" "policed6";
    }
    Element::ShutWithin(address) as [Address(address)], of Family::of(address), for Guard {
        /// Those that are denied by default.
        ShutWithin "shut_within4" "shut_within6";
    }
    Element::PairPort(PairPort { within: true, from, to, protocol, port, verdict })
        as [Address(from), Address(to), Protocol(protocol), Port(port)], of Family::of(to), for Guard
    {
        /// (from, to, protocol, port) within a bridge.
        WithinPort "within4_port" "within6_port": Verdict(verdict);
    }
    Element::Pair(Pair { within: true, from, to, verdict })
        as [Address(from), Address(to)], of Family::of(to), for Guard
    {
        /// (from, to) within a bridge.
        WithinPair "within4" "within6": Verdict(verdict);
    }
    Element::Shut(address) as [Address(address)], of Family::of(address), for Policies {
        /// Addresses that are denied by default.
        Shut "shut4" "shut6";
    }
    Element::PairPort(PairPort { within: false, from, to, protocol, port, verdict })
        as [Address(from), Address(to), Protocol(protocol), Port(port)], of Family::of(to), for Policies
    {
        /// (from, to, protocol, port) between containers.
        PolicyPort "policy4_port" "policy6_port": Verdict(verdict);
    }
    Element::Pair(Pair { within: false, from, to, verdict })
        as [Address(from), Address(to)], of Family::of(to), for Policies
    {
        /// (from, to) between containers.
        Policy "policy4" "policy6": Verdict(verdict);
    }
    Element::SentPort(EdgePort { edge, address, protocol, port, verdict })
        as [Edge(edge), Address(address), Protocol(protocol), Port(port)], of Family::of(address), for Policies
    {
        /// (edge, container, protocol, port) from containers.
        SentPort "sent4_port" "sent6_port": Verdict(verdict);
    }
    Element::Sent(EdgePair { edge, address, verdict })
        as [Edge(edge), Address(address)], of Family::of(address), for Policies
    {
        /// (edge, container) from containers.
        Sent "sent4" "sent6": Verdict(verdict);
    }
    Element::ReceivedPort(EdgePort { edge, address, protocol, port, verdict })
        as [Edge(edge), Address(address), Protocol(protocol), Port(port)], of Family::of(address), for Policies
    {
        /// (edge, container, protocol, port) to containers.
        ReceivedPort "received4_port" "received6_port": Verdict(verdict);
    }
    Element::Received(EdgePair { edge, address, verdict })
        as [Edge(edge), Address(address)], of Family::of(address), for Policies
    {
        /// (edge, container) to containers.
        Received "received4" "received6": Verdict(verdict);
    }
    Element::Egress(address) as [Address(address)], of Family::of(address), for Policies {
        /// Addresses of containers that send only what is allowed.
        Egress "egress4" "egress6";
    }
    Element::EgressToPorts(EgressToPorts { from, to, protocol, ports })
        as [Address(from), Subnet(to), Protocol(protocol), Ports(ports)], of Family::of(from), for Policies
    {
        /// (container, subnet, protocol, ports) that are allowed by address.
        EgressToPorts "egress4_to" "egress6_to";
    }
    Element::EgressTo(EgressTo { from, to }) as [Address(from), Subnet(to)], of Family::of(from), for Policies {
        /// (container, subnet) that are allowed by address.
        EgressTo "egress4_to_any" "egress6_to_any";
    }
    Element::OwnVip(bridge, vip) as [Interface(bridge), Address(vip)], of Family::of(vip), for Interfaces {
        /// (bridge, virtual address) of its network.
        OwnVips "own_vips4" "own_vips6";
    }
    Element::Vip(vip) as [Address(vip)], of Family::of(vip), for Services {
        /// Virtual addresses of services.
        Vips "vips4" "vips6";
    }
    Element::VipFrom(bridge, vip) as [Interface(bridge), Address(vip)], of Family::of(vip), for Services {
        /// (bridge, virtual address) of what is translated when it arrives.
        VipFrom "vip_from4" "vip_from6";
    }
    Element::VipSlot(VipSlot { vip, slots: Slots::Few, affinity: false, slot, to })
        as [Address(vip), Slot(slot)], of Family::of(vip), for Services
    {
        /// (virtual address, one of 8 slots) to member.
        VipFew "vip4_8" "vip6_8": Address(to);
    }
    Element::VipSlot(VipSlot { vip, slots: Slots::Few, affinity: true, slot, to })
        as [Address(vip), Slot(slot)], of Family::of(vip), for Services
    {
        /// (virtual address, one of 8 slots, by the client alone) to member.
        VipFewClient "vip4_8_client" "vip6_8_client": Address(to);
    }
    Element::VipSlot(VipSlot { vip, slots: Slots::Several, affinity: false, slot, to })
        as [Address(vip), Slot(slot)], of Family::of(vip), for Services
    {
        /// (virtual address, one of 64 slots) to member.
        VipSeveral "vip4_64" "vip6_64": Address(to);
    }
    Element::VipSlot(VipSlot { vip, slots: Slots::Several, affinity: true, slot, to })
        as [Address(vip), Slot(slot)], of Family::of(vip), for Services
    {
        /// (virtual address, one of 64 slots, by the client alone) to member.
        VipSeveralClient "vip4_64_client" "vip6_64_client": Address(to);
    }
    Element::VipSlot(VipSlot { vip, slots: Slots::Many, affinity: false, slot, to })
        as [Address(vip), Slot(slot)], of Family::of(vip), for Services
    {
        /// (virtual address, one of 1,024 slots) to member.
        VipMany "vip4_1024" "vip6_1024": Address(to);
    }
    Element::VipSlot(VipSlot { vip, slots: Slots::Many, affinity: true, slot, to })
        as [Address(vip), Slot(slot)], of Family::of(vip), for Services
    {
        /// (virtual address, one of 1,024 slots, by the client alone) to member.
        VipManyClient "vip4_1024_client" "vip6_1024_client": Address(to);
    }
    Element::PortSlot(PortSlot { protocol, port, slots: Slots::Few, affinity: false, slot, to })
        as [Protocol(protocol), Port(port), Slot(slot)], of Family::of(to), for Services
    {
        /// (protocol, port, one of 8 slots) to member.
        PortFew "port4_8" "port6_8": Address(to);
    }
    Element::PortSlot(PortSlot { protocol, port, slots: Slots::Few, affinity: true, slot, to })
        as [Protocol(protocol), Port(port), Slot(slot)], of Family::of(to), for Services
    {
        /// (protocol, port, one of 8 slots, by the client alone) to member.
        PortFewClient "port4_8_client" "port6_8_client": Address(to);
    }
    Element::PortSlot(PortSlot { protocol, port, slots: Slots::Several, affinity: false, slot, to })
        as [Protocol(protocol), Port(port), Slot(slot)], of Family::of(to), for Services
    {
        /// (protocol, port, one of 64 slots) to member.
        PortSeveral "port4_64" "port6_64": Address(to);
    }
    Element::PortSlot(PortSlot { protocol, port, slots: Slots::Several, affinity: true, slot, to })
        as [Protocol(protocol), Port(port), Slot(slot)], of Family::of(to), for Services
    {
        /// (protocol, port, one of 64 slots, by the client alone) to member.
        PortSeveralClient "port4_64_client" "port6_64_client": Address(to);
    }
    Element::PortSlot(PortSlot { protocol, port, slots: Slots::Many, affinity: false, slot, to })
        as [Protocol(protocol), Port(port), Slot(slot)], of Family::of(to), for Services
    {
        /// (protocol, port, one of 1,024 slots) to member.
        PortMany "port4_1024" "port6_1024": Address(to);
    }
    Element::PortSlot(PortSlot { protocol, port, slots: Slots::Many, affinity: true, slot, to })
        as [Protocol(protocol), Port(port), Slot(slot)], of Family::of(to), for Services
    {
        /// (protocol, port, one of 1,024 slots, by the client alone) to member.
        PortManyClient "port4_1024_client" "port6_1024_client": Address(to);
    }
}

/// One member of a set or map, in nft's representation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The set or map.
    pub set: Set,
    /// One value per kind of [`Set::key`].
    pub key: Vec<Value>,
    /// The data of a map's entry; `None` for a set.
    pub data: Option<Value>,
}

#[cfg(test)]
mod tests;
