//! What the plugin reads: standard input, the environment, and the daemon's request made of them.

pub(super) mod configuration;
pub(super) mod environment;
pub(super) mod fields;
pub(super) mod request;
pub(super) mod resolver;
pub(super) mod version;
