//! What another engine tells about an interface that it takes into its container.

use crate::model::ids::ContainerId;
use crate::model::names::{Alias, ContainerName};
use crate::model::publication::PortSpec;

/// A change of an endpoint whose interface is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoverChange {
    /// The engine's id of the endpoint.
    pub endpoint: String,
    /// What happens to it.
    pub action: HandoverAction,
}

/// What happens to an endpoint whose interface is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandoverAction {
    /// The engine may have taken the interface: if it is complete in the container, it is looked after there from now on.
    Settle,
    /// The engine is about to put the interface back on the host.
    GiveBack,
    /// The container's default route leads over it: its ports are published. A repeated request changes nothing.
    Lead(Vec<PortSpec>),
    /// The default route leads elsewhere: no port is published.
    StopLeading,
    /// What the engine knows the container by; `None`: as before.
    Identify {
        /// Its id.
        id: Option<ContainerId>,
        /// Its name.
        name: Option<ContainerName>,
        /// All further names on this network.
        aliases: Option<Vec<Alias>>,
    },
}
