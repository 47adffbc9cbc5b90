//! What the engine tells the name service: where to answer.

use std::net::IpAddr;

pub use crate::kernel::DnsSockets;

/// A change of the places where names are answered.
#[derive(Debug)]
pub enum Listening {
    /// Answer on these sockets from now on.
    Serve(DnsSockets),
    /// The gateway is gone: close its sockets.
    Stop(IpAddr),
}
