//! What several faces share: the HTTP client for the daemon's socket, and the server that `http` puts its routes on.

pub mod client;
pub mod server;
