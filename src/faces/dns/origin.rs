//! Where replies come from: the word for it that counts and logs know.

pub(super) use crate::engine::seen::Origin;
