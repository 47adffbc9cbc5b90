//! Netlink: the sockets for routes and links, and those for netfilter.

pub(super) mod netfilter;
pub mod socket;
