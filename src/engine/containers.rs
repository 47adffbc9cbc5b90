//! What other engines know of their containers, for the face that asks them.

pub use crate::runtimes::containers::{Answer, Check, Containers, Known, Notices};
