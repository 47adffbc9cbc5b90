//! Sockets that are served, and whose questions are taken when there are too many.

pub(super) mod admission;
pub(super) mod jobs;
pub(super) mod load_shedding;
pub(super) mod pauses;
pub(super) mod quarantine;
pub(super) mod server;
pub(super) mod tcp;
pub(super) mod udp;
