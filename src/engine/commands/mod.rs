//! The commands that change endpoints, and the check of one.

pub(super) mod attachment;
pub(super) mod check;
pub(super) mod connect;
pub(super) mod disconnect;
