//! Floor 4: translators, each from its dialect to commands or snapshots and back.

pub mod cli;
pub mod cni;
pub mod dns;
pub mod http;
pub mod resolved;
pub mod shared;
