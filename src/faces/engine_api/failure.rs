//! Why a request fails, in Docker's form: a status and `{"message": …}` (moby, daemon/server/httpstatus/status.go).

use std::fmt::Display;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::engine;
use crate::engine::{ErrorKind, Refusal};
use crate::faces::shared::server::problem::Problem;
use crate::model::Invalid;

/// Docker compares this text with the Content-Type, and shows the body as it is if they differ.
const JSON: &str = "application/json";

/// A refusal or failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// What Docker has and netd has not.
    pub(super) fn unsupported(what: impl Display) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, format!("netd does not support {what}"))
    }

    pub(super) fn no_network(text: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("network {text} not found"))
    }

    pub(super) fn no_container(text: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("No such container: {text}"))
    }

    /// No route has this path and method.
    pub(super) fn no_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "page not found")
    }

    /// Docker names a network or container `text` that does not exist, whatever netd's own sentence is.
    pub(super) fn of(error: engine::Error, network: &str, container: &str) -> Self {
        match &error {
            engine::Error::Refused(Refusal::NoSuchNetwork(_)) => Self::no_network(network),
            engine::Error::Refused(Refusal::NoSuchContainer { .. }) => Self::no_container(container),
            _ => Self::from(error),
        }
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        let (bad, forbidden, conflict) = (StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN, StatusCode::CONFLICT);
        let said = error.to_string();
        if let engine::Error::Refused(refusal) = &error {
            let (status, message) = match refusal {
                Refusal::NetworkExists(name) => (conflict, format!("network with name {name} already exists")),
                Refusal::NetworkInUse { network, containers, .. } if !containers.is_empty() => {
                    let ends: Vec<String> = containers.iter().map(|name| format!("name:{name:?}")).collect();
                    let why = format!("network {network} has active endpoints ({})", ends.join(", "));
                    (forbidden, format!("error while removing network: {why}"))
                }
                Refusal::NetworkInUse { .. } => (forbidden, format!("error while removing network: {said}")),
                Refusal::SubnetOverlap { .. } => {
                    let docker = "invalid pool request: Pool overlaps with other one on this address space";
                    (forbidden, format!("{docker}: {said}"))
                }
                Refusal::NoFreeSubnet { .. } => {
                    (bad, format!("all predefined address pools have been fully subnetted: {said}"))
                }
                Refusal::AlreadyConnected { container, network } => {
                    (forbidden, format!("endpoint with name {container} already exists in network {network}"))
                }
                Refusal::AddressTaken { .. } => (forbidden, format!("Address already in use: {said}")),
                Refusal::Ambiguous { what, text, count } => {
                    (bad, format!("{what} {text} is ambiguous ({count} matches found based on ID prefix)"))
                }
                _ => (status(error.kind()), said),
            };
            return Self { status, message };
        }
        Self { status: status(error.kind()), message: said }
    }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid | ErrorKind::Exhausted => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict | ErrorKind::Changed => StatusCode::CONFLICT,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Kernel | ErrorKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::bad(invalid.to_string())
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let (status, message) = problem.into_parts();
        Self { status, message }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!("refused a request to the Engine API: {}", self.message);
        }
        json_reply(self.status, &json!({ "message": self.message }))
    }
}

/// A reply with a JSON value, and a newline at its end, as Docker's.
pub(super) fn json_reply(status: StatusCode, value: &Value) -> Response {
    // A value of strings and numbers always serializes.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    (status, [(CONTENT_TYPE, JSON)], body).into_response()
}
