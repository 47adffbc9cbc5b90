//! The origin of a reply, as counters and logs name it.

pub(crate) use crate::engine::telemetry::Origin;
