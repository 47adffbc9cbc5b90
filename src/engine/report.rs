//! What the engine reports without changing anything: planned changes, and differences from the target.

use std::sync::Arc;

use crate::model::names::{NetworkName, ReservationId, ServiceName};
use crate::model::policy::{Policy, Rule};
use crate::model::request::{
    EndpointSpec, MemberChange, NetworkSpec, PolicyChange, PortChange, ReservationSpec, ServiceSpec, ServiceUpdate,
};

/// A request to plan.
#[derive(Debug, Clone)]
pub enum Request {
    /// Create a network.
    CreateNetwork(Box<NetworkSpec>),
    /// Remove a network, by name or id.
    RemoveNetwork(String),
    /// Remove every network without containers and reservations.
    PruneNetworks,
    /// Connect a container.
    Connect(Box<EndpointSpec>),
    /// Disconnect a container.
    Disconnect {
        /// Name or id of the network.
        network: String,
        /// Name or id of the container.
        container: String,
        /// The id of the reservation that it becomes; `None`: what it had is released.
        keep: Option<ReservationId>,
    },
    /// Publish a port of a connected container, or stop publishing it.
    ChangePort(Box<PortChange>),
    /// Reserve.
    Reserve(Box<ReservationSpec>),
    /// Release the reservation with this id.
    ReleaseReservation(String),
    /// Create a service.
    CreateService(Box<ServiceSpec>),
    /// Update a service.
    UpdateService(Box<ServiceUpdate>),
    /// Remove a service, by name or id.
    RemoveService(String),
    /// Say something of a member of services.
    ChangeMember(Box<MemberChange>),
    /// Add and remove policies.
    ChangePolicies(Box<PolicyChange>),
}

/// What became of policies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoliciesChanged {
    /// Those that are new.
    pub added: Vec<Arc<Policy>>,
    /// Those that are gone.
    pub removed: Vec<Arc<Policy>>,
    /// Those that were asked for and were there.
    pub unchanged: Vec<Arc<Policy>>,
}

/// A change that a request would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its kind.
    pub action: &'static str,
    /// What it changes.
    pub text: String,
}

/// What was restored from a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The networks that were created.
    pub networks: Vec<NetworkName>,
    /// The networks that were there already, as the backup has them.
    pub unchanged: Vec<NetworkName>,
    /// The services that were created.
    pub services: Vec<ServiceName>,
    /// The services that were there already, as the backup has them.
    pub unchanged_services: Vec<ServiceName>,
    /// What the policies say that were added.
    pub policies: Vec<Rule>,
}

/// A difference between what netd made and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The kind of object: `bridge`, `interface`, `table`, `element`, `port`, `limits`, `forwarding`, `file`,
    /// `namespace`, `stray`.
    pub kind: &'static str,
    /// The object, as `nd-net1` or `web/eth0`.
    pub object: String,
    /// The difference, for people.
    pub text: String,
}
