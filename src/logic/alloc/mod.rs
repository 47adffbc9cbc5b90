//! Allocation of subnets, addresses, host ports and interface names.

pub mod interfaces;
pub mod ipam;
pub mod ports;
pub mod spare;
pub mod sticky;
pub mod subnets;
