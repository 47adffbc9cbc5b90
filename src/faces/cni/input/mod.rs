//! The input of the plugin: standard input, the environment, and the request to the daemon that is built from them.

pub(super) mod configuration;
mod egress;
pub(super) mod environment;
pub(super) mod fields;
mod labels;
pub(super) mod request;
pub(super) mod resolver;
pub(super) mod version;
