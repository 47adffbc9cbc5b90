//! The output of the plugin.

pub(super) mod result;
