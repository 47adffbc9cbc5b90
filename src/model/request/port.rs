//! The request to publish a port of a connected container, or to stop publishing it.

use crate::model::publication::PortSpec;

/// A change of a container's published ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortChange {
    /// Name, id or beginning of the id of a connected container.
    pub container: String,
    /// Name or id of one of its networks. `None`: to publish, that of its default route; to stop, the one that has the
    /// publication.
    pub network: Option<String>,
    /// The port. To stop publishing it, what is left out of it means any.
    pub port: PortSpec,
    /// What to do with it.
    pub action: PortAction,
}

/// What to do with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortAction {
    /// Publish it.
    Publish,
    /// Stop publishing it.
    Unpublish {
        /// Whether existing flows stay; otherwise they end.
        drain: bool,
    },
}
