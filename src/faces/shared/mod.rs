//! What several faces need: the HTTP client for the daemon's socket.

pub mod client;
