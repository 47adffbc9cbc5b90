//! Containers as the engine tells, with netd's part: its names of networks, addresses, and published ports.

use std::sync::Arc;

use axum::extract::{Query, Request};
use axum::http::header::HOST;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Map, Value};

use super::Upstream;
use super::networks::{Names, Shown};
use crate::engine::Snapshot;
use crate::faces::engine_api::Asked;
use crate::faces::engine_api::container_json::{endpoint, legacy, port_list, port_map};
use crate::faces::engine_api::failure::{Failure, json_reply};
use crate::faces::engine_api::filters::Filters;
use crate::faces::engine_api::named::{Named, find};
use crate::faces::engine_api::network_json::BRIDGE;
use crate::faces::engine_api::version::ApiVersion;
use crate::faces::shared::client::segment;
use crate::model::desired::Attached;

impl Upstream {
    /// The engine's list.
    pub(in crate::faces::engine_api) async fn containers(
        &self,
        snapshot: &Snapshot,
        request: Request,
        asked: &Asked,
    ) -> Result<Response, Failure> {
        let filters = Filters::read(asked.query("filters"))?;
        let names = self.names(snapshot).await?;
        let mut answer = self.fetch(request, for_engine(&asked.upstream, &filters, &names, snapshot)?).await?;
        for container in answer.value.as_array_mut().into_iter().flatten().filter(|one| one.is_object()) {
            let attached = attached(snapshot, container);
            patch_networks(container, attached, &names, snapshot, asked.version);
            if let Some(attached) = attached {
                let ours = serde_json::to_value(port_list(attached)).unwrap_or_default();
                merge_ports(&mut container["Ports"], ours);
            }
        }
        if let Some(containers) = answer.value.as_array_mut() {
            let mut kept = Vec::with_capacity(containers.len());
            for container in std::mem::take(containers) {
                if ports_fit(&container, &filters)? {
                    kept.push(container);
                }
            }
            *containers = kept;
        }
        Ok(json_reply(answer.status, &answer.value))
    }

    /// One container of the engine; `None`: it has none of that name.
    pub(in crate::faces::engine_api) async fn container(
        &self,
        snapshot: &Snapshot,
        request: Request,
        asked: &Asked,
    ) -> Result<Option<Response>, Failure> {
        let version = asked.version;
        let mut answer = self.fetch(request, asked.upstream.clone()).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if answer.status.is_success() && answer.value["NetworkSettings"].is_object() {
            let names = self.names(snapshot).await?;
            let container = &mut answer.value;
            let attached = attached(snapshot, container);
            patch_networks(container, attached, &names, snapshot, version);
            if let Some(attached) = attached {
                let ports = container["NetworkSettings"]["Ports"].as_object().cloned().unwrap_or_default();
                let mut ports: Map<String, Value> = ports;
                for (port, bindings) in port_map(attached) {
                    let bindings = serde_json::to_value(bindings).unwrap_or_default();
                    if !bindings.is_null() || !ports.contains_key(&port) {
                        ports.insert(port, bindings);
                    }
                }
                container["NetworkSettings"]["Ports"] = Value::Object(ports);
            }
            if version < ApiVersion::one(52) {
                legacy(container);
            }
        }
        Ok(Some(json_reply(answer.status, &answer.value)))
    }

    async fn fetch(&self, request: Request, uri: Uri) -> Result<super::Answer, Failure> {
        let mut theirs = axum::http::Request::new(axum::body::Body::empty());
        (*theirs.method_mut(), *theirs.uri_mut()) = (request.method().clone(), uri);
        theirs.headers_mut().insert(HOST, HeaderValue::from_static("netd"));
        self.read(self.send(theirs).await?).await
    }
}

/// Filters that are netd's, because the engine does not know the ports.
const OWN_FILTERS: [&str; 2] = ["publish", "expose"];

/// The query with the engine's names of networks in its filters, and without [`OWN_FILTERS`].
fn for_engine(uri: &Uri, filters: &Filters, names: &Names, snapshot: &Snapshot) -> Result<Uri, Failure> {
    let theirs = |text: &str| {
        let Ok(Named::Ours(network)) = find(snapshot, text) else {
            // Podman's list has another name for it than its filters.
            return vec![names.get(text).map_or(text, |shown| shown.network.name.as_str()).to_owned()];
        };
        // By its name too: containers that have not been started are on a network by name only.
        let known = names.iter().filter(|(_, shown)| shown.network.id == network.id).map(|(key, _)| key.clone());
        let mut known: Vec<String> = known.collect();
        // The engine has an id and one name for it: if that is not netd's, netd's may be another network there.
        if known.len() > 2 {
            known.retain(|key| key != network.name.as_str());
        }
        if known.is_empty() { vec![text.to_owned()] } else { known }
    };
    let mut filters = filters.clone();
    filters.replace("network", theirs);
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default();
    let others = pairs.iter().filter(|(key, _)| key != "filters");
    let mut query: Vec<String> = others.map(|(key, value)| format!("{}={}", segment(key), segment(value))).collect();
    query.push(format!("filters={}", segment(&filters.without(&OWN_FILTERS))));
    format!("{}?{}", uri.path(), query.join("&")).parse().map_err(|_| Failure::no_page())
}

/// Whether the container's ports are asked for.
fn ports_fit(container: &Value, filters: &Filters) -> Result<bool, Failure> {
    let known = container["Ports"].as_array();
    let ports = |which: &str| -> Vec<(u16, String)> {
        let port = |port: &Value| {
            let number = port[which].as_u64().and_then(|number| u16::try_from(number).ok())?;
            Some((number, port["Type"].as_str().unwrap_or("tcp").to_owned()))
        };
        known.into_iter().flatten().filter_map(port).collect()
    };
    Ok(filters.ports("publish", &ports("PublicPort"))? && filters.ports("expose", &ports("PrivatePort"))?)
}

/// The container as netd has it.
fn attached<'a>(snapshot: &'a Snapshot, container: &Value) -> Option<&'a Arc<Attached>> {
    let id = container["Id"].as_str()?.parse().ok()?;
    snapshot.desired.by_any_id(&id)
}

/// Gives the container's networks netd's names and ids, and what netd knows better: the addresses that it has chosen.
fn patch_networks(
    container: &mut Value,
    attached: Option<&Arc<Attached>>,
    names: &Names,
    snapshot: &Snapshot,
    version: ApiVersion,
) {
    let is_vague = container.pointer("/HostConfig/NetworkMode").is_some_and(|mode| mode == BRIDGE);
    if let Some(mode) = container.pointer_mut("/HostConfig/NetworkMode")
        && let Some(shown) = mode.as_str().and_then(|mode| names.get(mode))
    {
        *mode = shown.name.as_str().into();
    }
    let Some(networks) = container.pointer_mut("/NetworkSettings/Networks").and_then(Value::as_object_mut) else {
        return;
    };
    let mut renamed = Map::new();
    for (name, mut settings) in std::mem::take(networks) {
        // The name may be that of another network of Docker.
        let id = settings["NetworkID"].as_str().filter(|id| !id.is_empty());
        let ours = names.get(id.unwrap_or(&name));
        let Some(Shown { network, id, name: shown }) = ours else {
            renamed.insert(name, settings);
            continue;
        };
        let end = attached.and_then(|attached| attached.endpoints.iter().find(|end| end.network == network.name));
        let known = end.map(|end| serde_json::to_value(endpoint(end, snapshot, version)).unwrap_or_default());
        for (key, value) in known.as_ref().and_then(Value::as_object).into_iter().flatten() {
            // What was asked for is the engine's.
            if !matches!(key.as_str(), "Aliases" | "DNSNames" | "GwPriority") {
                settings[key] = value.clone();
            }
        }
        settings["NetworkID"] = id.as_str().into();
        renamed.insert(shown.clone(), settings);
    }
    // Networks that netd has connected beside the engine.
    for end in attached.into_iter().flat_map(|attached| &attached.endpoints) {
        let name = names.get(end.network.as_str()).map_or(end.network.as_str(), |shown| &shown.name);
        if !renamed.contains_key(name) {
            let settings = serde_json::to_value(endpoint(end, snapshot, version)).unwrap_or_default();
            renamed.insert(name.to_owned(), settings);
        }
    }
    // Podman says `bridge` whichever networks of its driver a container is on.
    let only = renamed.keys().next().filter(|_| renamed.len() == 1).cloned();
    *networks = renamed;
    if let Some((mode, only)) = container.pointer_mut("/HostConfig/NetworkMode").zip(only)
        && is_vague
    {
        *mode = only.into();
    }
}

/// netd's published ports, and those of the engine that netd has not.
fn merge_ports(theirs: &mut Value, ours: Value) {
    let Value::Array(mut merged) = ours else { return };
    let of = |port: &Value| (port["PrivatePort"].as_u64(), port["Type"].as_str().unwrap_or("tcp").to_owned());
    let known: Vec<_> = merged.iter().map(of).collect();
    let others = theirs.as_array().cloned().unwrap_or_default();
    merged.extend(others.into_iter().filter(|port| !known.contains(&of(port))));
    *theirs = Value::Array(merged);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn published_ports_take_the_place_of_exposed_ones() {
        let mut theirs = json!([{"PrivatePort": 80, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}]);
        merge_ports(&mut theirs, json!([{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 4000, "Type": "tcp"}]));
        assert_eq!(theirs.as_array().unwrap().len(), 2);
        assert_eq!((&theirs[0]["PublicPort"], &theirs[1]["Type"]), (&json!(4000), &json!("udp")));
    }
}
