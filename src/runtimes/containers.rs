//! What the engines know of single containers, asked at their API sockets: labels, and the result of their own health
//! check; and a notice when that may have changed.
//!
//! Answers are read as plain JSON: engines differ in the words that they use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::HOST;
use axum::http::{Request, StatusCode};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::SOCKETS;

/// How long an engine may take to answer: it may be just starting the container, and answer after that.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer in bytes, and the longest notice.
const ANSWER_MAX: usize = 4 << 20;
const NOTICE_MAX: usize = 1 << 20;
/// The notices of containers that were started, or whose health check has another result, as a query.
const NOTICES: &str =
    "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22start%22%2C%22health_status%22%5D%7D";
/// The longest reason that is taken over, in characters.
const REASON_MAX: usize = 200;

/// An answer to come; the error says why there is none.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// The ids of containers of which something may have changed. It ends with the engine.
pub type Notices = BoxStream<'static, String>;

/// What an engine knows of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What the engine's health check of it says.
    pub check: Check,
}

/// What an engine's health check of a container says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// There is none.
    None,
    /// It has neither succeeded yet nor failed for good.
    Starting,
    /// The container is healthy.
    Healthy,
    /// It is not, with the reason that the engine has.
    Unhealthy(String),
}

/// An engine that is asked for its containers.
pub trait Containers: Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &str;

    /// Whether it can be there. If not, asking it is useless.
    fn may_answer(&self) -> bool;

    /// What it knows of the container with this id; `None` if it has none.
    fn container<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Known>>;

    /// The notices from now on.
    fn notices(&self) -> Answer<'_, Notices>;
}

/// An engine at a unix socket.
#[derive(Debug, Clone)]
pub struct EngineSocket {
    name: &'static str,
    socket: PathBuf,
    own: Option<PathBuf>,
}

impl EngineSocket {
    /// The engines with well-known sockets, and those at `further` ones. `own`: the socket of netd's own Engine API, which
    /// is none of them, also under another path.
    pub fn all(further: impl IntoIterator<Item = PathBuf>, own: Option<&Path>) -> Vec<Self> {
        let known = SOCKETS.map(|(name, path)| (name, PathBuf::from(path)));
        let mut all: Vec<Self> = Vec::new();
        for (name, socket) in known.into_iter().chain(further.into_iter().map(|path| ("the engine", path))) {
            if !all.iter().any(|other| other.socket == socket || same_file(&other.socket, &socket)) {
                all.push(Self { name, socket, own: own.map(Path::to_owned) });
            }
        }
        all
    }

    /// The engine at this socket.
    pub fn at(socket: PathBuf) -> Self {
        Self { name: "the engine", socket, own: None }
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Incoming), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| text(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
        // It ends with the answer, whose reader gets the error.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::get(path).header(HOST, "netd").body(Body::empty()).map_err(|error| text(&error))?;
        let reply = sender.send_request(request).await.map_err(|error| text(&error))?;
        Ok((reply.status(), reply.into_body()))
    }

    async fn inspect(&self, id: &str) -> Result<Option<Known>, String> {
        let (status, body) = self.get(&format!("/containers/{id}/json")).await?;
        let bytes = axum::body::to_bytes(Body::new(body), ANSWER_MAX).await.map_err(|error| error.to_string())?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => match serde_json::from_slice::<Value>(&bytes) {
                Ok(shown) => Ok((shown["Id"] == id).then(|| known(&shown))),
                Err(error) => Err(error.to_string()),
            },
            other => Err(format!("it answers with {other}")),
        }
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(one, other)| one == other)
}

async fn in_time<T>(asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| Err(format!("no answer within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, asked).await.unwrap_or_else(late)
}

impl Containers for EngineSocket {
    fn name(&self) -> &str {
        self.name
    }

    fn may_answer(&self) -> bool {
        self.socket.exists() && !self.own.as_deref().is_some_and(|own| same_file(own, &self.socket))
    }

    fn container<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Known>> {
        Box::pin(in_time(self.inspect(id)))
    }

    fn notices(&self) -> Answer<'_, Notices> {
        Box::pin(in_time(async {
            let (status, body) = self.get(NOTICES).await?;
            if status != StatusCode::OK {
                return Err(format!("it answers with {status}"));
            }
            let chunks = Body::new(body).into_data_stream().take_while(|chunk| std::future::ready(chunk.is_ok()));
            let notices = chunks.scan(Vec::new(), |kept: &mut Vec<u8>, chunk: Result<Bytes, _>| {
                kept.extend(chunk.unwrap_or_default());
                let ids = ids(kept);
                std::future::ready((kept.len() <= NOTICE_MAX).then(|| stream::iter(ids)))
            });
            Ok(notices.flatten().boxed())
        }))
    }
}

/// Takes the whole notices from the beginning of the buffer; the ids of their containers.
fn ids(kept: &mut Vec<u8>) -> Vec<String> {
    let (mut ids, mut read) = (Vec::new(), 0);
    let mut values = serde_json::Deserializer::from_slice(kept).into_iter::<Value>();
    while let Some(Ok(value)) = values.next() {
        read = values.byte_offset();
        let id = value["Actor"]["ID"].as_str().or_else(|| value["id"].as_str());
        ids.extend(id.map(str::to_owned));
    }
    kept.drain(..read);
    ids
}

fn known(shown: &Value) -> Known {
    let labels = shown["Config"]["Labels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    let health = &shown["State"]["Health"];
    let check = match health["Status"].as_str() {
        Some("healthy") => Check::Healthy,
        Some("unhealthy") => Check::Unhealthy(reason(health)),
        Some("starting" | "reset") => Check::Starting,
        // "", "none", "stopped".
        _ => Check::None,
    };
    Known { labels, check }
}

/// The first line that the check printed last.
fn reason(health: &Value) -> String {
    let last = health["Log"].as_array().and_then(|log| log.last()).and_then(|last| last["Output"].as_str());
    let line = last.unwrap_or_default().trim().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_health_are_read_from_what_both_engines_show() {
        let of = |health: Value, labels: Value| {
            known(&json!({"Id": "1", "State": {"Status": "running", "Health": health}, "Config": {"Labels": labels}}))
        };
        let log = json!([{"Output": "old"}, {"ExitCode": 7, "Output": "\ncurl: (7) refused\u{1b}[0m\nmore"}]);
        for (health, check) in [
            (Value::Null, Check::None),
            (json!({"Status": "", "FailingStreak": 0, "Log": null}), Check::None),
            (json!({"Status": "none"}), Check::None),
            (json!({"Status": "starting", "Log": []}), Check::Starting),
            (json!({"Status": "healthy", "Log": []}), Check::Healthy),
            (json!({"Status": "unhealthy", "Log": null}), Check::Unhealthy("".into())),
            (json!({"Status": "unhealthy", "Log": log}), Check::Unhealthy("curl: (7) refused[0m".into())),
        ] {
            assert_eq!(of(health.clone(), Value::Null), Known { labels: BTreeMap::new(), check }, "{health}");
        }
        let labels = of(Value::Null, json!({"com.docker.compose.project": "p", "odd": 5})).labels;
        assert_eq!(labels, [("com.docker.compose.project".to_owned(), "p".to_owned())].into());
    }

    #[test]
    fn notices_may_come_in_pieces() {
        let mut kept = br#"{"status":"start","id":"a","Type":"container","Action":"start","Actor":{"ID":"a"}}
{"Action":"health_status: healthy","Actor":{"ID":"b"}}
{"Action":"health_"#
            .to_vec();
        assert_eq!(ids(&mut kept), ["a", "b"]);
        assert_eq!(ids(&mut kept), [] as [String; 0]);
        kept.extend(br#"status","id":"c"}"#);
        assert_eq!(ids(&mut kept), ["c"]);
    }

    #[test]
    fn a_socket_is_asked_once_and_never_ones_own() {
        let place = tempfile::tempdir().unwrap();
        let (one, other) = (place.path().join("one"), place.path().join("other"));
        std::fs::write(&one, "").unwrap();
        std::os::unix::fs::symlink(&one, &other).unwrap();
        let further = [one.clone(), other.clone(), PathBuf::from("/run/podman/podman.sock")];
        let all = EngineSocket::all(further.clone(), None);
        assert_eq!(all.len(), SOCKETS.len() + 1, "{all:?}");
        assert!(all.last().unwrap().may_answer());
        assert!(!EngineSocket::all(further, Some(&other)).last().unwrap().may_answer(), "netd asks itself nothing");
        assert!(!EngineSocket::at(place.path().join("none")).may_answer());
    }
}
