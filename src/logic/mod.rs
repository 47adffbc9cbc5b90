//! Floor 1: pure functions over the model. Time and randomness are arguments.

pub mod alloc;
pub mod dhcp;
pub mod dns;
pub mod drift;
pub mod firewall;
pub mod parent;
pub mod plan;
pub mod policy;
pub mod recovery;
pub mod refusal;
pub mod renumber;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "sample data for tests")]
pub mod samples;
pub mod slots;
pub mod target;
