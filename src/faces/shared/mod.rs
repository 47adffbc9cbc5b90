//! What several faces share: the HTTP client for the daemon's socket.

pub mod client;
