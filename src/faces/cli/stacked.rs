//! What the listings of `netd stack` have in a line.

use serde_json::Value;

use crate::api::v1::{Member, Service};

/// A service of a stack, and what its engine says about it.
pub(super) struct StackService {
    pub(super) service: Service,
    /// `replicated` or `global`; without an image that of its name, `vip` or `dns`.
    pub(super) mode: String,
    /// As in `2/3`.
    pub(super) replicas: String,
    pub(super) image: String,
}

/// A task of a stack, or a member of a service without an image. What there is not is empty.
pub(super) struct StackTask {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) image: String,
    pub(super) node: String,
    pub(super) desired: String,
    pub(super) current: String,
    /// RFC 3339.
    pub(super) since: String,
    pub(super) error: String,
    pub(super) ports: String,
    pub(super) source: Source,
}

/// What `--json` prints of it.
pub(super) enum Source {
    Task(Value),
    Member(Box<Member>),
}
