//! The form in which events are sent.

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use serde_json::Value;

use super::version::ApiVersion;

/// How events follow each other in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    Json,
    Lines,
    NdJson,
    /// RFC 7464.
    Sequence,
}

impl Frame {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/jsonl",
            Self::NdJson => "application/x-ndjson",
            Self::Sequence => "application/json-seq",
        }
    }
}

/// The one that the client accepts, or that of the version.
pub(super) fn frame(headers: &HeaderMap, version: ApiVersion) -> Frame {
    let accepted = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let of = |kind: &str| match kind.split(';').next().unwrap_or_default().trim() {
        "application/jsonl" => Some(Frame::Lines),
        "application/x-ndjson" => Some(Frame::NdJson),
        "application/json-seq" => Some(Frame::Sequence),
        _ => None,
    };
    let usual = if version >= ApiVersion::one(52) { Frame::Lines } else { Frame::Json };
    accepted.split(',').find_map(of).unwrap_or(usual)
}

/// The event as it is sent. `legacy`: with the fields of old versions, where netd has put them.
pub(super) fn line(mut event: Value, legacy: bool, frame: Frame) -> Bytes {
    if !legacy && let Some(fields) = event.as_object_mut() {
        // The engine has left them in its own events where they belong.
        if fields.get("from").is_some_and(|from| from == "") {
            ["status", "id", "from"].iter().for_each(|key| drop(fields.shift_remove(*key)));
        }
    }
    let mut line = if frame == Frame::Sequence { vec![0x1e] } else { Vec::new() };
    // A value of strings and numbers always serializes.
    line.extend(serde_json::to_vec(&event).unwrap_or_default());
    line.push(b'\n');
    line.into()
}
