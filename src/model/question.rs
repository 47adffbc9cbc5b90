//! A question to the name service and its answer, free of any wire format.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who asks: decides which networks are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
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
    /// Anything else: a name of ours has none of it.
    Other,
}

/// What the zone says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// IPv4 addresses, in the network order of the asker.
    A(Vec<Ipv4Addr>),
    /// IPv6 addresses, in the network order of the asker.
    Aaaa(Vec<Ipv6Addr>),
    /// Names without the final dot, the container's own name first.
    Ptr(Vec<String>),
    /// The name is ours and known, but not with this type: NOERROR with SOA (RFC 2308, 2.2).
    NoData,
    /// The name is ours (or has one label, or lies in one of our subnets) and nobody visible to the asker has it.
    NxDomain,
    /// Not ours: the host's resolvers know.
    Forward,
    /// The asker is nobody we serve.
    Refused,
}
