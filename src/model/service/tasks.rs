//! Tasks: the containers that an engine runs for a service.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What runs for a service, in the words of Docker's Engine API (`ServiceSpec`, version 1.53): the engine understands
/// them, and what is not understood is refused before it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tasks {
    /// How many there are; `None`: one on each node (mode `Global`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// `TaskTemplate`, without its networks.
    pub template: Value,
    /// `EndpointSpec`, as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Value>,
    /// `UpdateConfig`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Value>,
    /// `RollbackConfig`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Value>,
}

impl Tasks {
    /// How many containers there are to be: on the one node of this host.
    pub fn count(&self) -> u32 {
        self.replicas.unwrap_or(1)
    }
}
