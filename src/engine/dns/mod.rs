//! The name service from the engine's side: which sockets it has, and whether questions reach them.

pub(super) mod gateway_probe;
pub mod names;
pub(super) mod sockets;
