//! What the clients of a unix socket speak, as far as the server itself has to know.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::check::Hosts;
use super::problem::Problem;

/// Whose protocol is spoken on a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// netd's own API.
    Native,
    /// Docker's plugin protocol. The only client is Docker, which sends JSON without saying so.
    Plugin,
    /// Docker's Engine API. Its streams last, and its clients may stop reading them for as long as they like.
    Engine,
}

/// The reply to a connection that exceeds the limits, sent before any request is read.
const BUSY: &str =
    "{\"error\":{\"code\":\"unavailable\",\"message\":\"netd has too many connections: close some, or try again\"}}";
const BUSY_ENGINE: &str = "{\"message\":\"netd has too many connections: close some, or try again\"}";
/// A connection whose client reads nothing for this long is closed: the pager of `docker logs` waits for a person.
const STUCK_ENGINE: Duration = Duration::from_secs(24 * 60 * 60);

impl Dialect {
    pub(super) fn hosts(self) -> Hosts {
        match self {
            Self::Native => Hosts::WithoutDot,
            Self::Plugin => Hosts::Plugin,
            Self::Engine => Hosts::Any,
        }
    }

    pub(super) fn busy(self) -> &'static str {
        match self {
            Self::Native | Self::Plugin => BUSY,
            Self::Engine => BUSY_ENGINE,
        }
    }

    /// How long a client may read nothing; `usual` for those that have no reason to.
    pub(super) fn stuck(self, usual: Duration) -> Duration {
        if self == Self::Engine { STUCK_ENGINE } else { usual }
    }

    /// The reply to a request that no handler sees.
    pub(in crate::faces) fn refuse(self, problem: Problem) -> Response {
        match self {
            Self::Native | Self::Plugin => problem.into_response(),
            Self::Engine => {
                let (status, message) = problem.into_parts();
                (status, Json(json!({ "message": message }))).into_response()
            }
        }
    }
}
