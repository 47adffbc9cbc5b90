//! Floor 0: plain data, valid once built. No IO, no async, no clock, no randomness.
//!
//! Whatever enters netd is parsed into these types at the border (command line, HTTP, configuration, store) and is
//! never checked again behind it.

pub mod address;
pub mod bandwidth;
pub mod desired;
pub mod endpoint;
pub mod exposure;
pub mod host;
pub mod ids;
pub mod inside;
pub mod names;
pub mod network;
pub mod publication;
pub mod question;
pub mod request;
pub mod route;
pub mod skipped;
pub mod upstream;

/// A value from outside that netd does not accept: what it was meant to be, what was given, and why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {why}")]
pub struct Invalid {
    /// The kind of value, as a user would call it ("network name", "subnet").
    pub what: &'static str,
    /// The text that was given.
    pub value: String,
    /// What is wrong with it and what would be right.
    pub why: String,
}

impl Invalid {
    /// Builds the error; `why` completes the sentence "invalid WHAT VALUE: …".
    pub fn new(what: &'static str, value: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what, value: value.into(), why: why.into() }
    }
}
