//! Messages: questions as they come, replies as they go, and where a reply comes from.

pub(super) mod encode;
pub(super) mod origin;
pub(super) mod reply;
pub(super) mod wire;
