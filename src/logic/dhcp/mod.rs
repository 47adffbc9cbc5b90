//! A client of DHCP (RFC 2131), as pure functions: its messages, what it makes of answers, and when it asks.

pub mod conversation;
pub mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod message;
pub mod schedule;
