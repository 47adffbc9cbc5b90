//! The engine's side of the name service: its sockets, and whether questions reach them.

pub(super) mod gateway_probe;
pub mod names;
pub(super) mod sockets;
