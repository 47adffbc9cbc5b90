//! The API over an engine in memory, without an engine that runs containers: statuses, bodies, and texts that clients
//! compare.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::engine::testing;
use crate::faces::shared::client::segment;

fn api() -> Arc<EngineApi> {
    EngineApi::new(testing::engine(), None, version::OLDEST, Facts::default())
}

/// Status and body: JSON, or the text.
async fn ask(api: &Arc<EngineApi>, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let reply = answer(State(api.clone()), request.body(body).unwrap()).await;
    let status = reply.status();
    if !status.is_success() {
        assert_eq!(reply.headers()["content-type"], "application/json", "the client compares the text");
    }
    let bytes = to_bytes(reply.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (status.as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

async fn said(api: &Arc<EngineApi>, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
    let (status, body) = ask(api, method, path, body).await;
    (status, body["message"].as_str().unwrap_or_default().to_owned())
}

fn network(name: &str) -> Option<Value> {
    Some(json!({"Name": name, "Driver": "bridge", "IPAM": {"Driver": "default", "Options": {}, "Config": []}}))
}

#[tokio::test]
async fn the_life_of_a_network() {
    let api = api();
    let (status, created) = ask(&api, "POST", "/v1.41/networks/create", network("net1")).await;
    assert_eq!((status, created["Warning"].as_str()), (201, Some("")));
    let id = created["Id"].as_str().unwrap();
    for name in ["net1", id, &id[..12]] {
        let (status, shown) = ask(&api, "GET", &format!("/networks/{name}"), None).await;
        assert_eq!((status, shown["Id"].as_str()), (200, Some(id)));
        assert_eq!(shown["IPAM"]["Config"], json!([{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.1"}]));
        assert_eq!(shown["Containers"], json!({}));
    }
    let again = said(&api, "POST", "/networks/create", network("net1")).await;
    assert_eq!(again, (409, "network with name net1 already exists".into()));
    assert_eq!(ask(&api, "DELETE", "/networks/net1", None).await, (204, "".into()));
    assert_eq!(said(&api, "DELETE", "/networks/net1", None).await, (404, "network net1 not found".into()));
    let pruned = ask(&api, "POST", "/networks/prune", None).await;
    assert_eq!(pruned, (200, json!({"NetworksDeleted": null})));
}

#[tokio::test]
async fn fields_are_those_of_the_version() {
    let api = api();
    ask(&api, "POST", "/networks/create", network("net1")).await;
    let has = async |version: &str, path: &str, field: &str| {
        let (_, shown) = ask(&api, "GET", &format!("/v{version}{path}"), None).await;
        let shown =
            shown.as_array().and_then(|all| all.iter().find(|one| one["Name"] == "net1")).cloned().unwrap_or(shown);
        shown.get(field).is_some()
    };
    for (version, path, field, expected) in [
        ("1.27", "/networks", "Containers", true),
        ("1.28", "/networks", "Containers", false),
        ("1.28", "/networks/net1", "Containers", true),
        ("1.47", "/networks/net1", "EnableIPv4", false),
        ("1.48", "/networks/net1", "EnableIPv4", true),
        ("1.51", "/networks/net1", "Status", false),
        ("1.52", "/networks/net1", "Status", true),
        ("1.28", "/networks/net1", "Ingress", false),
        ("1.29", "/networks/net1", "ConfigOnly", false),
        ("1.30", "/networks/net1", "ConfigOnly", true),
        ("1.24", "/networks/net1", "Attachable", false),
    ] {
        assert_eq!(has(version, path, field).await, expected, "{field} of {path} in {version}");
    }
    let (_, status) = ask(&api, "GET", "/v1.53/networks/net1", None).await;
    let subnet = &status["Status"]["IPAM"]["Subnets"]["10.77.0.0/24"];
    assert_eq!(subnet, &json!({"IPsInUse": 3, "DynamicIPsAvailable": 253}));
}

#[tokio::test]
async fn what_is_wrong_with_a_network_is_said_as_docker_says_it() {
    let api = api();
    let with = |fields: Value| {
        let mut body = network("net1").unwrap();
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Some(body)
    };
    let config = |config: Value| with(json!({"IPAM": {"Driver": "default", "Config": [config]}}));
    for (body, status, message) in [
        (network(""), 400, "invalid network name: name is empty"),
        (network("bridge"), 403, "operation is not permitted on predefined bridge network "),
        (with(json!({"Driver": "overlay"})), 403, "This node is not a swarm manager."),
        (with(json!({"Driver": "nope"})), 404, "could not find a driver named \"nope\""),
        (
            with(json!({"Driver": "macvlan"})),
            400,
            "invalid option \"parent\": the macvlan driver needs -o parent=INTERFACE",
        ),
        (with(json!({"Scope": "swarm"})), 403, "cannot create a swarm scoped network when swarm is not active"),
        (with(json!({"ConfigOnly": true})), 501, "netd does not support config-only networks"),
        (with(json!({"EnableIPv4": false})), 400, "IPv4 or IPv6 must be enabled"),
        (
            with(json!({"Options": {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}})),
            501,
            "netd does not support the network option com.docker.network.bridge.host_binding_ipv4",
        ),
        (with(json!({"Options": {"colour": "red"}})), 400, "invalid option \"colour\""),
        (
            config(json!({"Subnet": "10.0.0.1/24"})),
            400,
            "invalid network config:\ninvalid subnet 10.0.0.1/24: it should be 10.0.0.0/24",
        ),
        (
            config(json!({"Subnet": "nonsense"})),
            400,
            "invalid network config:\ninvalid subnet nonsense: invalid CIDR block notation",
        ),
        (config(json!({"Gateway": "10.0.0.1"})), 400, "invalid network config:\n"),
        (
            config(json!({"Subnet": "10.0.0.0/24", "AuxiliaryAddresses": {"a": "10.0.0.9"}})),
            501,
            "netd does not support auxiliary addresses",
        ),
        (Some(json!({"Name": 1})), 400, "invalid JSON: "),
        (Some(json!([])), 400, "invalid JSON: "),
    ] {
        let (got, said) = said(&api, "POST", "/networks/create", body.clone()).await;
        assert!(got == status && said.starts_with(message), "{body:?}: {got} {said}");
    }
    let (_, networks) = ask(&api, "GET", "/networks", None).await;
    assert_eq!(networks.as_array().unwrap().len(), 2, "nothing was made: {networks}");
}

#[tokio::test]
async fn lists_are_filtered() {
    let api = api();
    for (name, label) in [("net1", "a"), ("net2", "b")] {
        let mut body = network(name).unwrap();
        body["Labels"] = json!({ label: "1" });
        assert_eq!(ask(&api, "POST", "/networks/create", Some(body)).await.0, 201);
    }
    let names = async |filters: &str| {
        let filters = segment(filters);
        let (status, shown) = ask(&api, "GET", &format!("/networks?filters={filters}"), None).await;
        assert_eq!(status, 200, "{shown}");
        let names: Vec<String> =
            shown.as_array().unwrap().iter().map(|one| one["Name"].as_str().unwrap().into()).collect();
        names.join(" ")
    };
    for (filters, expected) in [
        ("", "net1 net2 host none"),
        (r#"{"name":["net"]}"#, "net1 net2"),
        (r#"{"name":{"^net1$":true}}"#, "net1"),
        (r#"{"driver":["host"]}"#, "host"),
        (r#"{"type":["builtin"]}"#, "host none"),
        (r#"{"type":["custom"],"label":["a=1"]}"#, "net1"),
        (r#"{"dangling":["true"]}"#, "net1 net2"),
        (r#"{"scope":["swarm"]}"#, ""),
    ] {
        assert_eq!(names(filters).await, expected, "{filters}");
    }
    for (filters, message) in
        [(r#"{"x":["y"]}"#, "invalid filter 'x'"), (r#"{"type":["y"]}"#, "invalid filter 'type=y'")]
    {
        let path = format!("/networks?filters={}", segment(filters));
        assert_eq!(said(&api, "GET", &path, None).await, (400, message.into()));
    }
}

#[tokio::test]
async fn versions_and_paths_that_are_not_spoken_are_refused() {
    let api = EngineApi::new(testing::engine(), None, version::OLDEST_USUAL, Facts::default());
    for (method, path, status, message) in [
        ("GET", "/v1.99/networks", 400, "client version 1.99 is too new. Maximum supported API version is 1.53"),
        (
            "GET",
            "/v1.20/networks",
            400,
            "client version 1.20 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version",
        ),
        ("GET", "/nope", 404, "page not found"),
        ("PUT", "/v1.41/networks/x", 404, "page not found"),
        ("GET", "/", 404, "page not found"),
        ("GET", "/%zz", 404, "page not found"),
        ("GET", "/networks/a%2Fb", 404, "network a/b not found"),
        (
            "GET",
            "/networks/x?verbose=maybe",
            400,
            "invalid value for verbose: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        ("GET", "/images/x/json", 404, "No such image: x"),
        ("GET", "/containers/x/json", 404, "No such container: x"),
        ("DELETE", "/networks/host", 403, "host is a pre-defined network and cannot be removed"),
        ("GET", "/services", 503, create_network::NO_SWARM),
        (
            "GET",
            "/events?since=yesterday",
            400,
            "parsing time \"yesterday\": use seconds since 1970, RFC 3339, or a duration as in 10m",
        ),
    ] {
        assert_eq!(said(&api, method, path, None).await, (status, message.to_owned()), "{method} {path}");
    }
    let (status, said) = said(&api, "POST", "/containers/create", Some(json!({}))).await;
    assert!(status == 501 && said.contains("[engine]"), "{said}");
}

#[tokio::test]
async fn a_ping_tells_the_version() {
    let api = api();
    for (method, body) in [("GET", "OK"), ("HEAD", "")] {
        let request = Request::builder().method(method).uri("/_ping").body(Body::empty()).unwrap();
        let reply = answer(State(api.clone()), request).await;
        assert_eq!(
            (reply.status(), &reply.headers()["api-version"]),
            (StatusCode::OK, &HeaderValue::from_static("1.53"))
        );
        assert_eq!(reply.headers()["swarm"], "inactive");
        assert_eq!(to_bytes(reply.into_body(), 100).await.unwrap(), body);
    }
}

#[tokio::test]
async fn a_connect_is_checked_before_anything_changes() {
    let api = api();
    ask(&api, "POST", "/networks/create", network("net1")).await;
    let body = |settings: Value| Some(json!({"Container": "web", "EndpointConfig": settings}));
    for (network, body, status, message) in [
        ("nope", body(json!({})), 404, "network nope not found"),
        (
            "host",
            body(json!({})),
            400,
            "cannot connect container to host network - container must be created in host network mode",
        ),
        ("net1", body(json!({})), 404, "No such container: web"),
        (
            "net1",
            body(json!({"IPAMConfig": {"IPv4Address": "x"}})),
            400,
            "invalid endpoint settings:\ninvalid IPv4 address: x",
        ),
        (
            "net1",
            body(json!({"IPAMConfig": {"IPv4Address": "192.0.2.9"}})),
            400,
            "invalid endpoint settings:\nno configured subnet contains IP address 192.0.2.9",
        ),
        ("net1", body(json!({"Links": ["a:b"]})), 501, "netd does not support links (Links): use an alias"),
        ("net1", Some(json!({})), 400, "invalid JSON: missing field `Container`"),
    ] {
        let got = said(&api, "POST", &format!("/networks/{network}/connect"), body.clone()).await;
        assert_eq!(got, (status, message.to_owned()), "{body:?}");
    }
    let gone = said(&api, "POST", "/networks/net1/disconnect", Some(json!({"Container": "web"}))).await;
    assert_eq!(gone, (404, "No such container: web".into()));
}

#[tokio::test]
async fn the_past_is_told_whole_and_in_the_order_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let event = |n: u64, time: u64| format!("{}\n", json!({"Type": "container", "Action": n, "timeNano": time}));
    let told: String = (0..300).map(|n| event(n, n)).chain([event(300, u64::MAX)]).collect();
    tokio::spawn(axum::serve(listener, Router::new().fallback(async move || told.clone())).into_future());
    let api = EngineApi::new(testing::engine(), Some(socket), version::OLDEST, Facts::default());
    ask(&api, "POST", "/networks/create", network("net1")).await;
    let now = time::parse("0s").unwrap();
    let (status, text) = ask(&api, "GET", &format!("/events?since=1&until={now:.9}"), None).await;
    let lines: Vec<Value> = text.as_str().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let actions: Vec<&Value> = lines.iter().map(|event| &event["Action"]).collect();
    assert_eq!((status, actions.len(), actions[299], actions[302]), (200, 303, &json!(299), &json!(300)));
    assert_eq!(
        (actions[300], actions[301]),
        (&json!("create"), &json!("create")),
        "netd's own, between those of the engine"
    );
    let why = said(&api, "GET", "/events?since=20&until=10", None).await;
    assert_eq!(why, (400, "`since` time (20) cannot be after `until` time (10)".into()));
}

/// An engine that has no networks, makes what it is asked for, and returns the body of a container's request. `healthy`:
/// whether it answers a ping.
fn engine_at(socket: &std::path::Path, healthy: bool) {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let reply = async move |request: Request| {
        let path = version::split(request.uri().path()).1.to_owned();
        match path.as_str() {
            "/_ping" if !healthy => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
            "/networks" => (StatusCode::OK, "[]".into()),
            "/networks/create" => (StatusCode::CREATED, json!({"Id": "0".repeat(64)}).to_string()),
            "/containers/create" => {
                let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
                (StatusCode::CREATED, String::from_utf8(body.to_vec()).unwrap())
            }
            _ => (StatusCode::OK, "{}".into()),
        }
    };
    tokio::spawn(axum::serve(listener, Router::new().fallback(reply)).into_future());
}

fn with_engine(socket: &std::path::Path) -> Arc<EngineApi> {
    EngineApi::new(testing::engine(), Some(socket.to_owned()), version::OLDEST, Facts::default())
}

#[tokio::test]
async fn a_container_is_put_on_networks_and_keeps_what_else_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    engine_at(&socket, true);
    let api = with_engine(&socket);
    for name in ["net1", "net2"] {
        assert_eq!(ask(&api, "POST", "/networks/create", network(name)).await.0, 201);
    }
    let body = json!({
        "ExposedPorts": {"80/tcp": null}, "HostConfig": {"Links": null},
        "NetworkingConfig": {"EndpointsConfig": {"default": {"Aliases": ["a"]}, "net2": null}},
    });
    let (status, made) = ask(&api, "POST", "/v1.40/containers/create", Some(body)).await;
    let expected = json!({
        "ExposedPorts": {"80/tcp": null}, "HostConfig": {"Links": null, "NetworkMode": "netd-bridge"},
        "NetworkingConfig": {"EndpointsConfig": {"netd-bridge": {"Aliases": ["a"]}, "net2": null}},
    });
    assert_eq!((status, made), (201, expected));
    for (body, message) in [
        (json!({"HostConfig": 1}), "invalid JSON: HostConfig is no object"),
        (json!({"HostConfig": {"NetworkMode": "nope"}}), "network nope not found"),
        (json!({"NetworkingConfig": {"EndpointsConfig": {"net1": {}, "theirs": {}}}}), "network theirs not found"),
    ] {
        assert_eq!(said(&api, "POST", "/v1.40/containers/create", Some(body)).await, (400, message.to_owned()));
    }
}

#[tokio::test]
async fn an_engine_that_is_not_known_or_is_netd_itself_makes_no_networks() {
    let folder = tempfile::tempdir().unwrap();
    let [ill, own] = ["ill.sock", "own.sock"].map(|name| folder.path().join(name));
    engine_at(&ill, false);
    let api = with_engine(&own);
    let listener = tokio::net::UnixListener::bind(&own).unwrap();
    tokio::spawn(axum::serve(listener, router(api.clone())).into_future());
    for (api, why) in [(with_engine(&ill), "it answers a ping with 503"), (api, "it answers a ping with 508")] {
        let (status, said) = said(&api, "POST", "/networks/create", network("net1")).await;
        assert!(status == 503 && said.contains(why), "{status} {said}");
        let (_, networks) = ask(&api, "GET", "/networks", None).await;
        assert_eq!(networks.as_array().unwrap().len(), 2, "only those that are always there: {networks}");
    }
}

#[tokio::test]
async fn a_container_on_two_networks_starts_and_dies_once() {
    let api = api();
    for name in ["net1", "net2"] {
        ask(&api, "POST", "/networks/create", network(name)).await;
    }
    for (verb, name) in [("connect", "net1"), ("connect", "net2"), ("disconnect", "net1"), ("disconnect", "net2")] {
        let done = ask(&api, "POST", &format!("/networks/{name}/{verb}"), Some(json!({"Container": "there"}))).await;
        assert_eq!(done.0, 200, "{verb} {name}: {}", done.1);
    }
    let filters = segment(r#"{"type":["container"]}"#);
    let now = time::parse("0s").unwrap();
    let (_, text) = ask(&api, "GET", &format!("/events?until={now:.9}&filters={filters}"), None).await;
    let events = text.as_str().unwrap().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(events.map(|event| event["Action"].clone()).collect::<Vec<_>>(), ["start", "die"]);
}
