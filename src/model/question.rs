//! A question to the name service and its answer, free of any wire format.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who asks: decides which networks are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The source address of a query that arrived at a gateway.
    Address(IpAddr),
    /// The host itself: sees every network.
    Host,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Names of an address.
    Ptr,
    /// Where a service is (RFC 2782).
    Srv,
    /// Labels.
    Txt,
    /// Whatever there is (RFC 8482).
    Any,
    /// Anything else: a name of ours has none of it.
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

/// What the zone says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// IPv4 addresses, in the network order of the client.
    A(Vec<Ipv4Addr>),
    /// IPv6 addresses, in the network order of the client.
    Aaaa(Vec<Ipv6Addr>),
    /// Names without the final dot, the container's own name first.
    Ptr(Vec<String>),
    /// Where the service is, the client's first network first; at least one.
    Srv(Vec<Service>),
    /// Texts of any length, at least one.
    Txt(Vec<String>),
    /// The name is ours and known, and everything was asked for: one record stands for all (RFC 8482, 4.2).
    Any,
    /// The name is ours and known, but not with this type: NOERROR with SOA (RFC 2308, 2.2).
    NoData,
    /// The name is ours (or has one label, or lies in one of our subnets) and nobody visible to the client has it.
    NxDomain,
    /// Not ours: the host's resolvers know.
    Forward,
    /// The client is nobody we serve.
    Refused,
}

/// One place where a service is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Lower ones are to be tried first: which of the client's networks it is on, counted from 0.
    pub priority: u16,
    /// The port in the container.
    pub port: u16,
    /// The container's name in full, without the final dot.
    pub target: String,
    /// What the target's addresses are.
    pub addresses: Vec<IpAddr>,
}

/// Why the zone answers as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client has no address of ours.
    Stranger,
    /// A container on a network that the client sees has the name.
    Name,
    /// Such a container has an alias `*.…` above the name.
    Wildcard,
    /// Such a container serves it.
    Service,
    /// As the two or three before, once a search domain of the host was taken off the name.
    Search,
    /// It is a name of the host.
    Host,
    /// It is the client itself, whoever that is.
    Loopback,
    /// It is the name of an address or subnet of ours.
    Reverse,
    /// It has no records of its own, but lies above names that do.
    Above,
    /// It would be ours, but nobody whom the client sees has it.
    Unknown,
    /// It is not ours.
    Foreign,
}
