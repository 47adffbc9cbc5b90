//! What is handed out: subnets, addresses, host ports, interface names.

pub mod interfaces;
pub mod ipam;
pub mod ports;
pub mod sticky;
pub mod subnets;
