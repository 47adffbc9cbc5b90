//! What the plugin prints.

pub(super) mod result;
