//! What a request carries, taken apart; what does not fit becomes a [`Problem`].

use std::error::Error as _;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The largest body a request may have, in bytes.
pub(super) const BODY_MAX: usize = 1 << 20;

/// The JSON body, of at most so many bytes. A missing Content-Type counts as JSON.
pub(super) struct Body<T, const MAX: usize = BODY_MAX>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned, const MAX: usize> FromRequest<S> for Body<T, MAX> {
    type Rejection = Problem;
    async fn from_request(mut request: Request, state: &S) -> Result<Self, Problem> {
        DefaultBodyLimit::max(MAX).apply(&mut request);
        if let Some(given) = request.headers().get(CONTENT_TYPE)
            && !is_json(given.as_bytes())
        {
            return Err(Problem::media_type(&String::from_utf8_lossy(given.as_bytes())));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                Problem::too_large(MAX)
            } else {
                Problem::invalid(format!("the body did not arrive whole: {}", rejection.body_text()))
            }
        })?;
        if bytes.is_empty() {
            return Err(Problem::invalid("the body is empty: send a JSON object"));
        }
        Json::from_bytes(&bytes).map(|Json(value)| Self(value)).map_err(|rejection| explain(&rejection))
    }
}

/// `application/json` or `application/ANYTHING+json`, with or without parameters.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    essence == b"application/json" || (essence.starts_with(b"application/") && essence.ends_with(b"+json"))
}

/// The words of the JSON parser, which name the field and the place.
fn explain(rejection: &JsonRejection) -> Problem {
    let words = rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string);
    match rejection {
        JsonRejection::JsonDataError(_) => Problem::invalid(format!("invalid request: {words}")),
        _ => Problem::invalid(format!("invalid JSON: {words}")),
    }
}

/// The variable parts of the path, percent-decoded.
pub(super) struct Segments<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(segments) = Path::from_request_parts(parts, state).await?;
        Ok(Self(segments))
    }
}

/// The query.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(params) = Query::from_request_parts(parts, state).await?;
        Ok(Self(params))
    }
}
