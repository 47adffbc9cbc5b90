//! Netlink: the client of every family, the sockets for routes and links, and those for netfilter.

mod client;
pub(super) mod netfilter;
pub mod socket;
