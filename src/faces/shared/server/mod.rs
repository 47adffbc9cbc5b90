//! The HTTP server, which knows no route: connections and their limits, the checks of requests, the parts of a request,
//! and replies to failed requests.

pub mod access;
pub(in crate::faces) mod budget;
pub(in crate::faces) mod caller;
mod check;
pub mod dialect;
pub(in crate::faces) mod extract;
pub(in crate::faces) mod problem;
pub mod serve;
mod socket;
pub mod tls;
