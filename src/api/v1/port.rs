//! Requests that change the published ports of a connected container.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::connect::PortRequest;
use super::endpoint::{ContainerRef, Port};
use super::parse;
use crate::model::Invalid;
use crate::model::endpoint::Endpoint;
use crate::model::publication::{PortSpec, Publication};
use crate::model::request::{PortAction, PortChange};

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishPort {
    /// The port.
    pub port: PortRequest,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedPorts {
    /// The container.
    pub container: ContainerRef,
    /// The network with which they are published, and whose end ends them.
    pub network: String,
    /// The added ports, with the host ports that netd chose.
    pub ports: Vec<Port>,
}

impl PublishedPorts {
    /// The ports that were added to the endpoint.
    pub fn of(endpoint: &Endpoint, added: &[Publication]) -> Self {
        Self {
            container: (&endpoint.container).into(),
            network: endpoint.network.to_string(),
            ports: added.iter().map(Port::from).collect(),
        }
    }
}

/// The change of a container's ports; `network`: one of its networks, `None`: netd's choice.
pub fn port_change(
    container: &str,
    network: Option<&str>,
    port: PortSpec,
    action: PortAction,
) -> Result<PortChange, Invalid> {
    let container = parse::container_reference(container)?;
    let network = network.map(parse::network_reference).transpose()?;
    Ok(PortChange { container, network, port, action })
}
