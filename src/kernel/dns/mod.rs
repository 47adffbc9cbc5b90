//! The kernel side of the name service: sockets, the redirection of questions to them, resolv.conf.

pub mod in_container;
pub mod kept;
pub mod probe;
pub mod resolv_conf;
pub mod resolver;
pub mod shards;
pub mod sockets;
pub(super) mod table;
