//! Extracts the parts of a request. Invalid parts become a [`Problem`].

use std::error::Error as _;
use std::pin::pin;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::budget::{Budget, Stopping, Weight};
use super::caller::Client;
use super::problem::Problem;
use crate::base::shares::Share;
use crate::engine;
use crate::engine::ErrorKind;

/// The largest body of a request, in bytes.
const BODY_MAX: usize = 1 << 20;
/// A body must be complete after this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The JSON body, of at most `MAX` bytes. The server has checked its Content-Type.
pub(in crate::faces) struct Body<T, const MAX: usize = BODY_MAX>(pub(in crate::faces) T);

impl<S: Send + Sync, T: DeserializeOwned, const MAX: usize> FromRequest<S> for Body<T, MAX> {
    type Rejection = Problem;
    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let bytes = whole(request, MAX).await?;
        if bytes.is_empty() {
            return Err(Problem::invalid("the body is empty: send a JSON object"));
        }
        // serde would take the items of a list for the fields of an object.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(Problem::invalid("the body is a list: send a JSON object"));
        }
        Json::from_bytes(&bytes).map(|Json(value)| Self(value)).map_err(|rejection| explain(&rejection))
    }
}

/// The body as it is, of at most `MAX` bytes.
pub(in crate::faces) struct Raw<const MAX: usize>(pub(in crate::faces) Vec<u8>);

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for Raw<MAX> {
    type Rejection = Problem;
    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        whole(request, MAX).await.map(Self)
    }
}

/// Reads the whole body, of at most `most` bytes. It counts against the client's share of all bodies.
async fn whole(request: Request, most: usize) -> Result<Vec<u8>, Problem> {
    let (parts, body) = request.into_parts();
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > most as u64) {
        return Err(Problem::too_large(most));
    }
    let Extensions { mut share, weight, stopping } = Extensions::of(&parts);
    let stopped = pin!(stopping.stopped());
    let read = async {
        let (mut bytes, mut chunks) = (Vec::new(), body.into_data_stream());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| Problem::invalid(format!("the body did not arrive whole: {error}")))?;
            if bytes.len() + chunk.len() > most {
                return Err(Problem::too_large(most));
            }
            if share.as_mut().is_some_and(|share| !share.grow(chunk.len() as u64)) {
                return Err(Problem::new(ErrorKind::Unavailable, "netd has too many requests in hand: try again"));
            }
            bytes.extend(&chunk);
        }
        Ok(bytes)
    };
    let bytes = tokio::select! {
        read = timeout(PATIENCE, read) => read.map_err(|_| Problem::too_slow(PATIENCE))??,
        () = stopped => return Err(engine::Error::Stopped.into()),
    };
    if let (Some(weight), Some(share)) = (weight, share) {
        weight.set(share);
    }
    Ok(bytes)
}

/// What the server has attached to the request. Empty if the router is not served by `serve`.
struct Extensions {
    share: Option<Share<Client>>,
    weight: Option<Weight>,
    stopping: Stopping,
}

impl Extensions {
    fn of(parts: &Parts) -> Self {
        let budget = parts.extensions.get::<Budget>();
        Self {
            share: budget.and_then(|budget| budget.bodies.take(budget.client, 0)),
            weight: parts.extensions.get::<Weight>().cloned(),
            stopping: parts.extensions.get::<Stopping>().cloned().unwrap_or_default(),
        }
    }
}

/// The share of an endless stream.
pub(in crate::faces) struct Stream {
    _share: Option<Share<Client>>,
}

impl<S: Send + Sync> FromRequestParts<S> for Stream {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(budget) = parts.extensions.get::<Budget>() else { return Ok(Self { _share: None }) };
        match budget.streams.take(budget.client, 1) {
            share @ Some(_) => Ok(Self { _share: share }),
            None => Err(Problem::new(ErrorKind::Unavailable, "too many streams are open: close some")),
        }
    }
}

/// The message of the JSON parser, which names the field and the position.
fn explain(rejection: &JsonRejection) -> Problem {
    let words = rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string);
    match rejection {
        JsonRejection::JsonDataError(_) => Problem::invalid(format!("invalid request: {words}")),
        _ => Problem::invalid(format!("invalid JSON: {words}")),
    }
}

/// The variable parts of the path, percent-decoded.
pub(in crate::faces) struct Segments<T>(pub(in crate::faces) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(segments) = Path::from_request_parts(parts, state).await?;
        Ok(Self(segments))
    }
}

/// The query.
pub(in crate::faces) struct Params<T>(pub(in crate::faces) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(params) = Query::from_request_parts(parts, state).await?;
        Ok(Self(params))
    }
}
