//! The engine's side of the name service: its sockets, and whether questions reach them.

mod gateway_askers;
mod gateway_found;
pub(super) mod gateway_probe;
pub mod names;
pub(super) mod sockets;
