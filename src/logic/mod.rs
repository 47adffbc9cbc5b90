//! Floor 1: pure functions over the model. Time and randomness are arguments.

pub mod foreign;
pub mod interfaces;
pub mod ipam;
pub mod ports;
pub mod refusal;
pub mod rules;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "sample data for tests")]
pub mod samples;
pub mod sticky;
pub mod subnets;
pub mod wanted;
pub mod zone;
