//! Where replies come from: the word for it that counts and logs know.

pub use crate::engine::seen::Origin;
