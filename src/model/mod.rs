//! Floor 0: plain data, valid by construction. No IO, no async, no clock, no randomness.
//!
//! Everything that enters netd (command line, HTTP, configuration, store) is parsed into these types at the boundary
//! and is not checked again later.

pub mod address;
pub mod backup;
pub mod bandwidth;
pub mod desired;
pub mod driver;
pub mod egress;
pub mod endpoint;
pub mod exposure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod handover;
pub mod host;
pub mod ids;
pub mod inside;
pub mod lease;
pub mod names;
pub mod netns;
pub mod network;
pub mod policy;
pub mod publication;
pub mod question;
pub mod relay;
pub mod request;
pub mod reservation;
pub mod route;
pub mod service;
pub mod subnets;
pub mod upstream;

/// An external value that netd does not accept: its kind, its text, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {why}")]
pub struct Invalid {
    /// The kind of value, in the user's terms ("network name", "subnet").
    pub what: &'static str,
    /// The rejected text.
    pub value: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

impl Invalid {
    /// Builds the error; `why` completes the sentence "invalid WHAT VALUE: …".
    pub fn new(what: &'static str, value: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what, value: value.into(), why: why.into() }
    }
}
