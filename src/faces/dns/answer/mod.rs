//! From the bytes of a question to the bytes of its reply: a fast path for ordinary questions, and a slow path for all.

pub(super) mod egress;
pub(super) mod fast_path;
pub(super) mod names;
pub(super) mod packet_cache;
pub(super) mod rotation;
pub(super) mod slow_path;
