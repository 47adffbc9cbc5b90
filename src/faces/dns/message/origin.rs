//! Where replies come from: the word for it that counts and logs know.

pub(crate) use crate::engine::telemetry::Origin;
