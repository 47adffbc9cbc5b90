//! Replies to failed requests: status, code and a message of one line.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::api::v1::{ErrorBody, ErrorDetail};
use crate::engine;
use crate::engine::ErrorKind;
use crate::model::Invalid;

/// A refusal or failure to report to the client.
#[derive(Debug)]
pub(in crate::faces) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// The only mapping from error kinds to statuses.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict | ErrorKind::Exhausted | ErrorKind::Changed => StatusCode::CONFLICT,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Kernel | ErrorKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Problem {
    pub(in crate::faces) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status: status(kind), code: kind.as_str(), message: message.into() }
    }

    pub(in crate::faces) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Status and message, for a protocol that has its own form of errors.
    pub(in crate::faces) fn into_parts(self) -> (StatusCode, String) {
        (self.status, self.message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes");
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, code: "too_large", message }
    }

    pub(super) fn too_slow(patience: Duration) -> Self {
        let message = format!("the body did not arrive whole within {} s", patience.as_secs());
        Self { status: StatusCode::REQUEST_TIMEOUT, code: "timeout", message }
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, code: "forbidden", message: message.into() }
    }

    /// The request is for another server, as far as its `Host` tells.
    pub(super) fn misdirected(message: String) -> Self {
        Self { status: StatusCode::MISDIRECTED_REQUEST, code: "misdirected", message }
    }

    /// `given` is empty if there is no Content-Type.
    pub(super) fn media_type(given: &str) -> Self {
        let given = if given.is_empty() { "absent".to_owned() } else { format!("{given:?}") };
        let message = format!("Content-Type is {given}: send application/json");
        Self { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, code: "unsupported_media_type", message }
    }
}

impl From<engine::Error> for Problem {
    fn from(error: engine::Error) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(invalid.to_string())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(format!("invalid path: {}", rejection.body_text()))
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        // Its message follows "Failed to deserialize query string: ".
        let text = rejection.body_text();
        let why = text.split_once(": ").map_or(text.as_str(), |(_, why)| why);
        Self::invalid(format!("invalid query: {why}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Clients show the message as one line.
        let message = self.message.split(['\n', '\r']).map(str::trim).collect::<Vec<_>>().join(" ");
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(code = self.code, message, "request failed");
        }
        let error = ErrorDetail { code: self.code.to_owned(), message };
        (self.status, Json(ErrorBody { error })).into_response()
    }
}

/// No route has this path.
pub(in crate::faces) async fn no_route(uri: Uri) -> Problem {
    Problem::new(ErrorKind::NotFound, format!("no such path {:?}: see GET /openapi.json", uri.path()))
}

/// The path exists, but not with this method.
pub(in crate::faces) async fn no_method(method: Method, uri: Uri) -> Problem {
    let message = format!("{:?} does not take {method}: see GET /openapi.json", uri.path());
    Problem { status: StatusCode::METHOD_NOT_ALLOWED, code: "method_not_allowed", message }
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;

    use super::*;

    #[tokio::test]
    async fn every_code_is_in_the_description() {
        let described = serde_json::to_string(&ErrorDetail::schema()).unwrap();
        let kinds = [
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::Conflict,
            ErrorKind::Exhausted,
            ErrorKind::Changed,
            ErrorKind::Unavailable,
            ErrorKind::Kernel,
            ErrorKind::Failed,
        ];
        let mut problems: Vec<Problem> = kinds.map(|kind| Problem::new(kind, "")).into();
        problems.extend([Problem::too_large(1), Problem::too_slow(Duration::ZERO), Problem::media_type("")]);
        problems.extend([Problem::forbidden(""), Problem::misdirected(String::new())]);
        problems.push(no_method(Method::GET, Uri::default()).await);
        for Problem { code, .. } in problems {
            assert!(described.contains(&format!("`{code}`")), "{code}: {described}");
        }
    }
}
