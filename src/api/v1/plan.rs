//! What `--dry-run` and `netd diff` ask for and get.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ChangePolicies, Connect, CreateNetwork, CreateService, PortRequest, Reserve, UpdateService, text};
use crate::model::names::ReservationId;
use crate::model::request::MemberAction;

/// A request to plan without carrying it out.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PlanRequest {
    /// Create this network.
    CreateNetwork(Box<CreateNetwork>),
    /// Remove the network with this name or id.
    #[schema(value_type = text::AnyNetwork)]
    RemoveNetwork(String),
    /// Remove every network without containers and reservations; the value is ignored.
    PruneNetworks(bool),
    /// Connect a container.
    Connect {
        /// Name or id of the network.
        #[schema(value_type = text::AnyNetwork)]
        network: String,
        /// The container and its endpoint.
        endpoint: Box<Connect>,
    },
    /// Disconnect a container.
    Disconnect {
        /// Name or id of the network.
        #[schema(value_type = text::AnyNetwork)]
        network: String,
        /// Name or id of the container.
        #[schema(value_type = text::AnyContainer)]
        container: String,
        /// The id of the reservation that keeps its addresses, MAC address and ports; absent: they are released.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<text::ReservationId>)]
        keep: Option<ReservationId>,
    },
    /// Publish a port of a connected container.
    PublishPort {
        /// Name, id or unique beginning of the id of the container.
        #[schema(value_type = text::AnyContainer)]
        container: String,
        /// Name or id of one of its networks; absent: that of its default route.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<text::AnyNetwork>)]
        network: Option<String>,
        /// The port.
        port: PortRequest,
    },
    /// Stop publishing a port.
    UnpublishPort {
        /// Name, id or unique beginning of the id of the container.
        #[schema(value_type = text::AnyContainer)]
        container: String,
        /// Name or id of the network with which it is published; absent: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<text::AnyNetwork>)]
        network: Option<String>,
        /// The port; what is left out of it means any.
        port: PortRequest,
        /// Whether existing flows stay.
        #[serde(default)]
        drain: bool,
    },
    /// Reserve.
    Reserve {
        /// Name or id of the network.
        #[schema(value_type = text::AnyNetwork)]
        network: String,
        /// What to reserve.
        reservation: Box<Reserve>,
    },
    /// Release the reservation with this id.
    #[schema(value_type = text::ReservationId)]
    ReleaseReservation(String),
    /// Create this service.
    CreateService(Box<CreateService>),
    /// Update a service.
    UpdateService {
        /// Its name or id.
        #[schema(value_type = text::AnyService)]
        service: String,
        /// What to change.
        update: Box<UpdateService>,
    },
    /// Remove the service with this name or id.
    #[schema(value_type = text::AnyService)]
    RemoveService(String),
    /// Add and remove policies.
    ChangePolicies(Box<ChangePolicies>),
    /// Say something of a member of services.
    ChangeMember {
        /// Name, id or unique beginning of the id of the container.
        #[schema(value_type = text::AnyContainer)]
        container: String,
        /// What to say.
        #[schema(value_type = text::MemberAction)]
        action: MemberAction,
    },
}

/// A difference between what netd made and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// The kind of object: `bridge`, `interface`, `table`, `element`, `port`, `limits`, `forwarding`, `file`,
    /// `namespace`, `stray`.
    pub kind: String,
    /// The object, as `nd-net1` or `web/eth0`.
    pub object: String,
    /// The difference, for people.
    pub text: String,
}

/// Removes everything that netd made.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Teardown {
    /// Only say what would be removed. Must be given.
    pub dry_run: bool,
}

/// A change that a request would make to the host, in the order in which they would be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStep {
    /// Its kind, as in `add-interface`.
    pub action: String,
    /// What it changes, for people.
    pub text: String,
}
