//! The engine that runs containers (Docker or Podman), behind its own API socket: what netd asks it, and the requests that
//! are passed on to it. Each request has a connection of its own, which ends with it.

mod containers;
mod create;
mod events;
mod networks;
mod pass;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

pub(super) use self::create::default_network;
use super::failure::Failure;
use super::version::{ApiVersion, NEWEST};
use crate::base::monotonic;

/// How long the engine may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what it has said is used.
const KNOWN: Duration = Duration::from_secs(10);
/// The longest answer that netd reads as a whole, in bytes: a list of some ten thousand containers.
const ANSWER_MAX: usize = 64 << 20;
/// The version of netd's own questions: the one that both engines have.
const OWN: ApiVersion = ApiVersion::one(40);

/// Which engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Docker,
    Podman,
}

/// What an engine says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct About {
    pub(super) kind: Kind,
    /// The newest version that both netd and the engine speak.
    pub(super) version: ApiVersion,
    /// Whether it builds images with BuildKit.
    pub(super) buildkit: bool,
}

/// The engine.
pub(super) struct Upstream {
    socket: PathBuf,
    about: Mutex<Option<(Instant, About)>>,
    /// Held while a network is made in the engine, so that it is made once.
    making: tokio::sync::Mutex<()>,
}

/// The engine's answer to a question of netd.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) value: Value,
}

impl Answer {
    /// The value, or the failure that the engine reports.
    pub(super) fn value(self) -> Result<Value, Failure> {
        if self.status.is_success() {
            return Ok(self.value);
        }
        let message = self.value["message"].as_str().unwrap_or("the engine gave no reason").to_owned();
        Err(Failure::new(self.status, message))
    }
}

impl Upstream {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, about: Mutex::default(), making: tokio::sync::Mutex::default() }
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> Failure {
        let at = self.socket.display();
        let why = format!("the engine at {at} does not answer: {why}: start it, or see [engine] in netd.toml(5)");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    /// What the engine is; as it was when it cannot be asked now.
    pub(super) async fn about(&self) -> Result<About, Failure> {
        let known = *self.lock();
        if let Some((_, about)) = known.filter(|(since, _)| since.elapsed() < KNOWN) {
            return Ok(about);
        }
        let ping = Request::builder().uri("/_ping").header(HOST, "netd").body(Body::empty());
        let ping = ping.map_err(|error| self.unreachable(error))?;
        let said = match timeout(PATIENCE, self.send(ping)).await {
            Ok(Ok(reply)) => Ok(about(reply.headers())),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        match (said, known) {
            (Ok(about), _) => {
                *self.lock() = Some((monotonic::now(), about));
                Ok(about)
            }
            (Err(_), Some((_, about))) => Ok(about),
            (Err(failure), None) => Err(failure),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, About)>> {
        // A value is replaced as a whole.
        self.about.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request on a connection of its own.
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(error))?;
        tokio::spawn(async move {
            // Whoever reads the reply gets the error.
            let _ = connection.with_upgrades().await;
        });
        sender.send_request(request).await.map_err(|error| self.unreachable(error))
    }

    /// Asks the engine something, and reads the whole answer.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(format!("/v{OWN}{path}")).header(HOST, "netd");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.body(body).map_err(|error| self.unreachable(error))?;
        self.read(self.send(request).await?).await
    }

    /// What the engine replies to a request of a client, as netd changes it.
    pub(super) async fn get(&self, uri: &Uri) -> Result<Value, Failure> {
        let request = Request::builder().uri(uri.clone()).header(HOST, "netd").body(Body::empty());
        self.read(self.send(request.map_err(|error| self.unreachable(error))?).await?).await?.value()
    }

    /// The whole reply.
    async fn read(&self, reply: Response<Incoming>) -> Result<Answer, Failure> {
        let (parts, body) = reply.into_parts();
        let bytes = axum::body::to_bytes(Body::new(body), ANSWER_MAX).await;
        let bytes = bytes.map_err(|error| self.unreachable(error))?;
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer { status: parts.status, value })
    }
}

fn about(headers: &HeaderMap) -> About {
    let kind = if headers.contains_key("libpod-api-version") { Kind::Podman } else { Kind::Docker };
    let version = headers.get("api-version").and_then(|version| version.to_str().ok()?.parse().ok());
    let buildkit = headers.get("builder-version").is_some_and(|builder| builder == "2");
    About { kind, version: version.unwrap_or(OWN).min(NEWEST), buildkit }
}

/// A text as one segment of a path, or as a value of a query.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
