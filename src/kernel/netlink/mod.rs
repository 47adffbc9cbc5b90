//! Netlink: the client of every family, the sockets for routes and links, those for netfilter, and filters of
//! notifications.

pub(super) mod client;
pub(super) mod filter;
pub(super) mod netfilter;
pub mod socket;
pub(super) mod sockets;
