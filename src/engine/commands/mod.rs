//! The commands that change networks, endpoints and reservations, and the one that checks an attachment.

pub(super) mod attachment;
pub(super) mod check;
pub(super) mod connect;
pub(super) mod diff;
pub(super) mod disconnect;
pub(super) mod network;
pub(super) mod plan;
pub(super) mod reservation;
