//! Floor 4: translators, each from its dialect to a command or the snapshot and back.

pub mod client;
pub mod http;
