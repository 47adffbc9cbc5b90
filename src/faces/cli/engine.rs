//! netd's own Engine API as the command line uses it, for what containers are made for: services with tasks, stacks.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Session;
use super::args::EngineSocket;
use crate::faces::shared::client::{Client, ClientError, segment};

/// The name of the socket, in the folder of the daemon's.
const SOCKET: &str = "docker.sock";
/// What names an engine.
const NAME_ONE: &str = "name the engine that runs containers, Docker or Podman, with `socket` of [engine] in netd.toml";
/// A node that is in no swarm.
const UNAVAILABLE: u16 = 503;
const NOT_IMPLEMENTED: u16 = 501;

/// The Engine API.
pub(super) struct Engine {
    client: Client,
}

/// Why there is no successful reply.
#[derive(Debug)]
pub(super) struct Refused {
    /// The HTTP status, if there was a reply.
    pub(super) status: Option<u16>,
    pub(super) why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<ClientError> for Refused {
    fn from(error: ClientError) -> Self {
        Self { status: error.status(), why: error.to_string() }
    }
}

impl Engine {
    /// The API at the socket that was given, or beside the daemon's.
    pub(super) fn new(session: &Session<'_>, socket: &EngineSocket) -> Self {
        let beside =
            || session.client.socket().parent().map_or_else(|| PathBuf::from(SOCKET), |folder| folder.join(SOCKET));
        Self { client: Client::new(socket.docker_socket.clone().unwrap_or_else(beside)) }
    }

    /// Whether it answers.
    pub(super) fn is_there(&self) -> bool {
        self.client.request("GET", "/_ping", None).is_ok_and(|reply| reply.status == 200)
    }

    /// Makes sure that an engine runs containers, and that there is a swarm, which is of this node only.
    pub(super) fn prepare(&self) -> Result<(), Refused> {
        let none = &json!({"reference": ["netd.invalid/none"]}).to_string();
        match self.get(&format!("/images/json?filters={}", segment(none))) {
            Err(refused) if refused.status == Some(NOT_IMPLEMENTED) => return Err(without_engine(NAME_ONE)),
            Err(refused) if refused.status.is_none() => {
                let socket = self.client.socket().display();
                return Err(without_engine(&format!("nothing answers at {socket}: {NAME_ONE}")));
            }
            other => drop(other?),
        }
        match self.get("/swarm") {
            Err(refused) if refused.status == Some(UNAVAILABLE) => {
                self.post("/swarm/init", &json!({"ListenAddr": "0.0.0.0:2377"})).map(drop)
            }
            other => other.map(drop),
        }
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, Refused> {
        self.ask("GET", path, None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Refused> {
        self.ask("POST", path, Some(body))
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), Refused> {
        self.ask("DELETE", path, None).map(drop)
    }

    /// The list at a path, of what has these filters.
    pub(super) fn list(&self, path: &str, filters: &Value) -> Result<Vec<Value>, Refused> {
        let found = self.get(&format!("{path}?filters={}", segment(&filters.to_string())))?;
        Ok(found.as_array().cloned().unwrap_or_default())
    }

    /// A service by name or id.
    pub(super) fn service(&self, name: &str) -> Result<Value, Refused> {
        self.get(&format!("/services/{}", segment(name)))
    }

    /// Gives a service another definition. The reply's warnings are not kept: the daemon has none.
    pub(super) fn update(&self, service: &Value, spec: &Value) -> Result<(), Refused> {
        let (id, version) = (service["ID"].as_str().unwrap_or_default(), &service["Version"]["Index"]);
        self.post(&format!("/services/{id}/update?version={version}"), spec).map(drop)
    }

    /// Makes a service as it was before its last update.
    pub(super) fn roll_back(&self, service: &Value) -> Result<(), Refused> {
        let (id, version) = (service["ID"].as_str().unwrap_or_default(), &service["Version"]["Index"]);
        self.post(&format!("/services/{id}/update?version={version}&rollback=previous"), &service["Spec"]).map(drop)
    }

    /// Hands on the bytes of an endless reply, as they come.
    pub(super) fn stream(&self, path: &str) -> Result<impl std::io::Read + use<>, Refused> {
        Ok(self.client.bytes(path)?)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Refused> {
        let text = body.map(Value::to_string);
        let reply = self.client.request(method, path, text.as_deref().map(str::as_bytes))?;
        // A reply without a body is as good as null.
        let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if (200..300).contains(&reply.status) {
            return Ok(value);
        }
        let why = value["message"].as_str().map(str::to_owned);
        let why = why.unwrap_or_else(|| format!("the daemon answered {}", reply.status));
        Err(Refused { status: Some(reply.status), why: why.trim_start_matches("rpc error: ").to_owned() })
    }
}

fn without_engine(what: &str) -> Refused {
    Refused { status: None, why: format!("netd does not run containers itself: {what}") }
}
