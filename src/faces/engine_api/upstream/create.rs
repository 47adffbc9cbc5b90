//! `POST /containers/create`: the engine makes the container, on networks that are netd's.

use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Map, Value};

use super::{Answer, Kind, Upstream};
use crate::engine::{Handle, Snapshot};
use crate::faces::engine_api::failure::{Failure, json_reply};
use crate::faces::engine_api::named::{Named, find};
use crate::faces::engine_api::network_json::BRIDGE;
use crate::faces::engine_api::{Asked, body};
use crate::faces::shared::client::segment;
use crate::model::network::Network;
use crate::model::request::NetworkSpec;

const KEYS: [&str; 8] = [
    "HostConfig",
    "NetworkMode",
    "NetworkingConfig",
    "EndpointsConfig",
    "NetworkID",
    "EndpointID",
    "PortBindings",
    "ExposedPorts",
];

impl Upstream {
    pub(in crate::faces::engine_api) async fn create_container(
        &self,
        handle: &Handle,
        request: Request,
        uri: Uri,
    ) -> Result<Response, Failure> {
        let agent = request.headers().get(USER_AGENT).cloned();
        let wanted = body::as_it_is(request).await?;
        let answer = self.make_container(handle, wanted, uri, agent).await?;
        Ok(json_reply(answer.status, &answer.value))
    }

    /// Makes a container as the body says, on networks that are netd's.
    pub(in crate::faces::engine_api) async fn make_container(
        &self,
        handle: &Handle,
        mut wanted: Value,
        uri: Uri,
        agent: Option<HeaderValue>,
    ) -> Result<Answer, Failure> {
        rename(&mut wanted, &KEYS);
        for key in ["HostConfig", "NetworkingConfig"] {
            if !matches!(wanted.get(key), None | Some(Value::Null | Value::Object(_))) {
                return Err(Failure::bad(format!("invalid JSON: {key} is no object")));
            }
        }
        let kind = self.about().await?.kind;
        let mode = wanted.pointer("/HostConfig/NetworkMode").and_then(Value::as_str).unwrap_or_default().to_owned();
        let defined = self.definitions().await?;
        let is_defined = |name: &str| defined.iter().any(|known| known["Name"] == name || known["Id"] == name);
        let first = match network_of(&handle.snapshot(), kind, &mode)? {
            Wanted::Network(_) if is_defined(&mode) => None,
            Wanted::Engine => None,
            Wanted::Default => {
                let network = default_network(handle).await?;
                Some(self.put_on(&mut wanted, &[BRIDGE, "default", &mode], &network).await?)
            }
            Wanted::Network(network) => Some(self.put_on(&mut wanted, &[&mode], &network).await?),
        };
        // Further networks.
        let others: Vec<String> = match wanted.pointer("/NetworkingConfig/EndpointsConfig") {
            Some(Value::Object(ends)) => ends.keys().cloned().collect(),
            _ => Vec::new(),
        };
        for name in others.into_iter().filter(|name| !is_defined(name) && Some(name) != first.as_ref()) {
            if let Wanted::Network(network) = network_of(&handle.snapshot(), kind, &name)? {
                let theirs = self.ensure_network(&network).await?.name;
                move_end(&mut wanted, &[&name], &theirs);
            }
        }
        let mut theirs = axum::http::Request::new(Body::from(wanted.to_string()));
        (*theirs.method_mut(), *theirs.uri_mut()) = (axum::http::Method::POST, uri);
        theirs.headers_mut().extend(agent.map(|agent| (USER_AGENT, agent)));
        theirs.headers_mut().insert(HOST, HeaderValue::from_static("netd"));
        theirs.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.read(self.send(theirs).await?).await
    }

    /// Path and query of a build, with the engine's name of the network on which it is.
    pub(in crate::faces::engine_api) async fn on_networks(
        &self,
        handle: &Handle,
        asked: &Asked,
    ) -> Result<Uri, Failure> {
        let Some(mode) = asked.query("networkmode") else { return Ok(asked.upstream.clone()) };
        let kind = self.about().await?.kind;
        let is_defined = self.definitions().await?.iter().any(|known| known["Name"] == mode || known["Id"] == mode);
        // What is no network the engine refuses itself, once a step needs it.
        let wanted = network_of(&handle.snapshot(), kind, mode).unwrap_or(Wanted::Engine);
        let theirs = match wanted {
            Wanted::Network(network) if !is_defined => self.ensure_network(&network).await?.name,
            // BuildKit knows no other network than its own.
            Wanted::Network(_) | Wanted::Engine | Wanted::Default => return Ok(asked.upstream.clone()),
        };
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&asked.upstream).map(|Query(pairs)| pairs);
        let pairs = pairs.unwrap_or_default().into_iter().map(|(key, value)| {
            let value = if key == "networkmode" { theirs.clone() } else { value };
            format!("{}={}", segment(&key), segment(&value))
        });
        let query = pairs.collect::<Vec<_>>().join("&");
        format!("{}?{query}", asked.upstream.path()).parse().map_err(|_| Failure::no_page())
    }

    /// Puts the container on the network, with the settings that were given under one of these names. Returns the engine's
    /// name of the network.
    async fn put_on(&self, wanted: &mut Value, given: &[&str], network: &Network) -> Result<String, Failure> {
        let theirs = self.ensure_network(network).await?.name;
        wanted["HostConfig"]["NetworkMode"] = theirs.as_str().into();
        let id = network.id.to_string();
        move_end(wanted, &[given, &[network.name.as_str(), &id]].concat(), &theirs);
        Ok(theirs)
    }
}

/// Where a container is to be.
enum Wanted {
    /// Whatever the engine makes of it: the host's namespace, none, another container's.
    Engine,
    /// The network of containers for which none is given.
    Default,
    Network(std::sync::Arc<Network>),
}

fn network_of(snapshot: &Snapshot, kind: Kind, mode: &str) -> Result<Wanted, Failure> {
    match mode {
        // Podman's default network is netd's already.
        "" | "default" | BRIDGE if kind == Kind::Podman => Ok(Wanted::Engine),
        "" | "default" | BRIDGE => Ok(Wanted::Default),
        _ if mode.starts_with("container:") || mode.starts_with("ns:") => Ok(Wanted::Engine),
        _ => match find(snapshot, mode) {
            Ok(Named::Ours(network)) => Ok(Wanted::Network(network)),
            Ok(Named::Predefined(_) | Named::Podman(_)) => Ok(Wanted::Engine),
            // "Not found" would say that the image is missing, and the client would pull it.
            Err(failure) if failure.status == StatusCode::NOT_FOUND => match kind {
                // A definition that netd gets with the first container.
                Kind::Podman => Ok(Wanted::Engine),
                Kind::Docker => Err(Failure::bad(failure.message)),
            },
            Err(failure) => Err(failure),
        },
    }
}

/// netd's network `bridge`; it is made if there is none.
pub(in crate::faces::engine_api) async fn default_network(handle: &Handle) -> Result<std::sync::Arc<Network>, Failure> {
    if let Ok(Named::Ours(network)) = find(&handle.snapshot(), BRIDGE) {
        return Ok(network);
    }
    match handle.create_network(NetworkSpec::named(BRIDGE.parse()?)).await {
        Ok(network) => Ok(network),
        // Another request has made it in between.
        Err(error) => match find(&handle.snapshot(), BRIDGE) {
            Ok(Named::Ours(network)) => Ok(network),
            _ => Err(error.into()),
        },
    }
}

/// Gives the settings that stand under one of the names their place under the engine's name.
fn move_end(wanted: &mut Value, given: &[&str], theirs: &str) {
    let Some(ends) = wanted.pointer_mut("/NetworkingConfig/EndpointsConfig").and_then(Value::as_object_mut) else {
        return;
    };
    let found = given.iter().filter(|name| **name != theirs).find_map(|name| ends.remove(*name));
    if let Some(mut settings) = found {
        if let Some(fields) = settings.as_object_mut() {
            fields.remove("NetworkID");
        }
        ends.insert(theirs.to_owned(), settings);
    }
}

/// Gives the keys of the upper levels the case in which the engine writes them, and leaves everything else as it is.
fn rename(value: &mut Value, keys: &[&str]) {
    let Some(fields) = value.as_object_mut() else { return };
    let renamed: Map<String, Value> = std::mem::take(fields)
        .into_iter()
        .map(|(key, mut value)| {
            let known = keys.iter().find(|known| known.eq_ignore_ascii_case(&key));
            if matches!(known, Some(&"HostConfig" | &"NetworkingConfig")) {
                rename(&mut value, keys);
            }
            (known.map_or(key, |known| (*known).to_owned()), value)
        })
        .collect();
    *fields = renamed;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_settings_of_a_network_follow_its_name() {
        let mut wanted = json!({"networkingconfig": {"endpointsConfig": {"net1": {"Aliases": ["db"], "NetworkID": "x"}}}, "Labels": {"hostconfig": "y"}});
        rename(&mut wanted, &KEYS);
        move_end(&mut wanted, &["net1"], "net1.netd");
        let expected = json!({"NetworkingConfig": {"EndpointsConfig": {"net1.netd": {"Aliases": ["db"]}}}, "Labels": {"hostconfig": "y"}});
        assert_eq!(wanted, expected);
        move_end(&mut wanted, &["net2"], "net3");
        move_end(&mut wanted, &["net1.netd"], "net1.netd");
        assert_eq!(wanted, expected);
    }
}
