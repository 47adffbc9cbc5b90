//! The commands of the CNI spec.

pub(super) mod add;
pub(super) mod verbs;
