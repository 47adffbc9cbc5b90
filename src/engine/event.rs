//! Events, one per change, in the order of the changes.

use std::sync::Arc;
use std::time::SystemTime;

use super::state::denied::DeniedFlow;
use crate::model::endpoint::Endpoint;
use crate::model::names::ServiceName;
use crate::model::network::Network;
use crate::model::policy::Policy;
use crate::model::publication::Publication;
use crate::model::reservation::Reservation;
use crate::model::service::{MemberState, Service};

/// A change and its time.
#[derive(Debug, Clone)]
pub struct Event {
    /// The time of the change.
    pub time: SystemTime,
    /// The change.
    pub change: Change,
}

/// What changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// A network was created.
    NetworkCreated(Arc<Network>),
    /// A network has other name servers.
    NetworkChanged(Arc<Network>),
    /// A network was removed.
    NetworkRemoved(Arc<Network>),
    /// Something was reserved.
    Reserved(Arc<Reservation>),
    /// A reservation was released. One that a container consumes is told by [`Change::Connected`].
    Released(Arc<Reservation>),
    /// A service was created.
    ServiceCreated(Arc<Service>),
    /// A service was updated.
    ServiceUpdated(Arc<Service>),
    /// A service was removed.
    ServiceRemoved(Arc<Service>),
    /// A policy was added.
    PolicyAdded(Arc<Policy>),
    /// A policy was removed.
    PolicyRemoved(Arc<Policy>),
    /// A policy has denied packets; told once in a while for the same two.
    Denied(DeniedFlow),
    /// A member of a service has another state.
    Member {
        /// The service.
        service: ServiceName,
        /// The member.
        endpoint: Arc<Endpoint>,
        /// Its state now.
        state: MemberState,
        /// Why it is not used; empty if it is.
        why: String,
    },
    /// A container was connected.
    Connected(Arc<Endpoint>),
    /// A container was disconnected, on request or because its namespace no longer exists.
    Disconnected {
        /// The endpoint as it was.
        endpoint: Arc<Endpoint>,
        /// Why.
        cause: Cause,
    },
    /// Ports of a connected container were published.
    Published {
        /// The endpoint as it is now.
        endpoint: Arc<Endpoint>,
        /// What was added.
        publications: Vec<Publication>,
    },
    /// Ports of a connected container are no longer published.
    Unpublished {
        /// The endpoint as it is now.
        endpoint: Arc<Endpoint>,
        /// What was removed.
        publications: Vec<Publication>,
    },
    /// A requested name does not resolve to the container that requested it.
    Name {
        /// The endpoint that requested the name.
        endpoint: Arc<Endpoint>,
        /// What the name resolves to instead.
        message: String,
    },
    /// A connected container has another address of its network's DHCP server, or none any more.
    Lease {
        /// The endpoint as it is now.
        endpoint: Arc<Endpoint>,
        /// What has changed.
        message: String,
    },
    /// netd repaired a difference from the target ("table inet netd was missing", "bridge nd-net1 was gone").
    Repaired(String),
    /// netd cannot repair a difference from the target; also in `netd status`.
    Problem(String),
    /// A host setting was changed ("net.ipv4.ip_forward set to 1: network net1 forwards").
    HostChanged(String),
}

/// Why a container was disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A person or a runtime requested it.
    Requested,
    /// Its network namespace or its interface no longer exists.
    Gone,
    /// It could not be connected to another network of the same request.
    Undone,
}
