//! Messages: parsing questions, building replies, and the origins of replies.

pub(super) mod encode;
pub(super) mod origin;
pub(super) mod reply;
pub(super) mod wire;
