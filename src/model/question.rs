//! A question to the name service and its answer, independent of any wire format.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The names of the host for users of Docker and Podman, and netd's equivalent, whatever the domain is.
pub const HOST_ALIASES: [&str; 3] = ["host.docker.internal", "host.containers.internal", "host.netd.internal"];

/// The client, which determines the visible networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The source address of a query that arrived at a gateway.
    Address(IpAddr),
    /// The host itself: sees every network.
    Host,
}

/// The requested record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Names of an address.
    Ptr,
    /// Location of a service (RFC 2782).
    Srv,
    /// Labels.
    Txt,
    /// Any type (RFC 8482).
    Any,
    /// Any other type; names of netd have no such records.
    Other,
}

impl RecordType {
    /// From the number in a query (IANA, "Resource Record (RR) TYPEs").
    pub fn from_code(code: u16) -> Self {
        match code {
            1 => Self::A,
            12 => Self::Ptr,
            16 => Self::Txt,
            28 => Self::Aaaa,
            33 => Self::Srv,
            255 => Self::Any,
            _ => Self::Other,
        }
    }
}

/// The zone's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// IPv4 addresses, in the network order of the client.
    A(Vec<Ipv4Addr>),
    /// IPv6 addresses, in the network order of the client.
    Aaaa(Vec<Ipv6Addr>),
    /// Names without the final dot, the container's own name first.
    Ptr(Vec<String>),
    /// The locations of the service, at least one; those on the client's first network come first.
    Srv(Vec<Service>),
    /// Texts of any length, at least one.
    Txt(Vec<String>),
    /// The name is netd's and exists, and all types were requested: one record stands for all (RFC 8482, 4.2).
    Any,
    /// The name is netd's and exists, but without this type: NOERROR with SOA (RFC 2308, 2.2).
    NoData,
    /// The name is netd's (or has one label, or is in one of its subnets), but no container visible to the client has
    /// it.
    NxDomain,
    /// Not netd's name: forward it to upstreams.
    Forward,
    /// netd does not serve the client.
    Refused,
}

/// One location of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Lower values are tried first: the index of its network in the client's order, counted from 0.
    pub priority: u16,
    /// The port in the container.
    pub port: u16,
    /// The container's full name, without the final dot.
    pub target: String,
    /// The target's addresses.
    pub addresses: Vec<IpAddr>,
}

/// The reason for the zone's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client has no address that netd knows.
    Stranger,
    /// A container on a network that the client sees has the name.
    Name,
    /// Such a container has an alias `*.…` above the name.
    Wildcard,
    /// Such a container serves it.
    Service,
    /// One of the cases before, after a search domain of the host was removed from the name.
    Search,
    /// It is a name of the host.
    Host,
    /// It denotes the client itself.
    Loopback,
    /// It is the name of an address or subnet of netd.
    Reverse,
    /// It has no records of its own, but there are names below it.
    Above,
    /// It is in netd's namespace, but no container that the client sees has it.
    Unknown,
    /// It is not netd's.
    Foreign,
}
