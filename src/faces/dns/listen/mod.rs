//! Serving sockets: receiving questions over UDP and TCP, and choosing whose questions to answer under overload.

pub(super) mod admission;
pub(super) mod jobs;
pub(super) mod load_shedding;
pub(super) mod pauses;
pub(super) mod quarantine;
pub(super) mod server;
pub(super) mod tcp;
pub(super) mod udp;
