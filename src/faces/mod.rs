//! Floor 4: the faces. Each translates between one protocol and the commands and snapshots of the engine.

pub mod cli;
pub mod cni;
pub mod dhcp;
pub mod dns;
pub mod docker;
pub mod engine_api;
pub mod engines;
pub mod health;
pub mod http;
pub mod netavark;
pub mod proxy;
pub mod relay;
pub mod resolved;
pub mod shared;
