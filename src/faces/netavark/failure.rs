//! Why a command failed, as netavark tells it: `{"error":"…"}` on standard output.

use std::fmt::Display;

use serde_json::json;

use crate::faces::shared::client::ClientError;
use crate::model::Invalid;

/// A sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure(pub(super) String);

impl Failure {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// What is not as netd needs it in a network.
    pub(super) fn network(name: &str, why: impl Display) -> Self {
        Self(format!("network {name}: {why}"))
    }

    /// The error in the daemon's reply, or the lack of a reply.
    pub(super) fn daemon(error: &ClientError) -> Self {
        match error {
            ClientError::Connect { socket, source } => Self(format!(
                "cannot reach netd at {}: {source}: start it with `systemctl start netd` (NETD_SOCKET names another socket)",
                socket.display()
            )),
            ClientError::Broken { .. } => Self(error.to_string()),
            ClientError::Refused { error, .. } => Self(error.message.clone()),
        }
    }

    /// The line that Podman reads.
    pub(super) fn json(&self) -> String {
        let Self(why) = self;
        json!({ "error": why.split_whitespace().collect::<Vec<_>>().join(" ") }).to_string()
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self(invalid.to_string())
    }
}
