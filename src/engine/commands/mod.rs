//! The commands that change networks, endpoints and reservations, and those that look at all of them or at one.

pub(super) mod attachment;
mod awaiting;
pub(super) mod backup;
pub(super) mod check;
pub(super) mod connect;
pub(super) mod diff;
pub(super) mod disconnect;
pub(super) mod egress;
pub(super) mod engine_network;
mod grace;
pub(super) mod handover;
mod keep;
pub(super) mod lease;
pub(super) mod network;
pub(super) mod on_demand;
mod parents;
pub(super) mod plan;
pub(super) mod plan_service;
pub(super) mod policy;
pub(super) mod port;
pub(super) mod renumber;
mod reservation;
mod service;
pub(super) mod teardown;
pub(super) mod together;
