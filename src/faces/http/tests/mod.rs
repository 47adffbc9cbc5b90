//! Tests the API over real sockets with an in-memory engine, mostly with netd's blocking client.

mod checks;
mod description;
mod reservations;
mod services;
mod telemetry;
mod tls;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::base::descriptors::Capacity;
use crate::engine::{Handle, testing};
use crate::faces::shared::client::{Client, Reply};
use crate::faces::shared::server::access::Access;
use crate::faces::shared::server::dialect::Dialect;
use crate::faces::shared::server::serve;

/// A served API. `stop` shuts it down and checks that it stops.
struct Api {
    client: Client,
    ready: Arc<AtomicBool>,
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    /// For simulating the name service.
    handle: Handle,
    _directory: tempfile::TempDir,
}

fn serve() -> Api {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("netd.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let local = serve::Local { listener, access: Access::own(), inherited: false, dialect: Dialect::Native };
    let ready = Arc::new(AtomicBool::new(true));
    let handle = testing::engine();
    let router = super::router(handle.clone(), testing::names(), ready.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let server =
        tokio::spawn(serve::serve_unix(local, router, Capacity::default(), async move { drop(stopped.await) }));
    Api { client: Client::new(&socket), ready, socket, stop, server, handle, _directory: directory }
}

impl Api {
    async fn ask(&self, method: &'static str, path: &str, body: Option<Value>) -> (u16, Value) {
        let reply = self.raw(method, path, body.map(|body| body.to_string())).await;
        (reply.status, serde_json::from_slice(&reply.body).unwrap_or(Value::Null))
    }

    async fn raw(&self, method: &'static str, path: &str, body: Option<String>) -> Reply {
        let (client, path) = (self.client.clone(), path.to_owned());
        let ask = move || client.request(method, &path, body.as_ref().map(String::as_bytes)).unwrap();
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    /// Sends raw bytes to the socket and returns the whole reply.
    async fn bytes(&self, request: String) -> String {
        let socket = self.socket.clone();
        let ask = move || {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            reply
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_main_job_over_http() {
    let api = serve();
    let (status, network) = api.ask("POST", "/v1/networks", Some(json!({"name": "net1"}))).await;
    assert_eq!(status, 201);
    let keys: std::collections::BTreeSet<&String> = network.as_object().unwrap().keys().collect();
    // The keys of the first published version, and those added later.
    let expected =
        ["bridge", "created", "driver", "icc", "id", "internal", "labels", "masquerade", "mtu", "name", "subnets"];
    let later = ["dns", "host_access", "sticky"];
    assert_eq!(keys.into_iter().filter(|key| !later.contains(&key.as_str())).collect::<Vec<_>>(), expected);
    assert!(later.iter().all(|key| !network[key].is_null()), "{network}");
    assert_eq!(network["subnets"], json!([{"subnet": "10.77.0.0/24", "gateway": "10.77.0.1"}]));
    let created = network["created"].as_str().unwrap();
    assert!(created.len() == "2026-01-02T03:04:05Z".len() && created.ends_with('Z'), "{created}");

    let request = json!({"container": "web", "netns": "/run/netns/there", "aliases": ["www"], "ports": ["4000:80"]});
    let (status, endpoint) = api.ask("POST", "/v1/networks/net1/endpoints", Some(request)).await;
    assert_eq!((status, &endpoint["container"]["name"]), (201, &json!("web")));
    let port = json!({"host_ip": null, "host_port": 4000, "container_port": 80, "protocol": "tcp"});
    assert_eq!(endpoint["ports"], json!([port]));
    for path in ["/v1/endpoints", "/v1/networks/net1/endpoints"] {
        assert_eq!(api.ask("GET", path, None).await, (200, json!([endpoint])), "{path}");
    }
    let (_, container) = api.ask("GET", "/v1/containers/web", None).await;
    assert_eq!(container["endpoints"], json!([endpoint]));
    assert_eq!(api.ask("GET", "/v1/containers", None).await.1, json!([container]));
    let (_, files) = api.ask("GET", "/v1/containers/web/files", None).await;
    assert!(files["resolv_conf"].as_str().unwrap().contains("nameserver 10.77.0.1"), "{files}");

    let (_, status) = api.ask("GET", "/v1/status", None).await;
    assert_eq!((&status["ready"], &status["endpoints"], &status["publications"]), (&json!(true), &json!(1), &json!(1)));
    let (_, dump) = api.ask("GET", "/v1/dump", None).await;
    assert_eq!((&dump["networks"][0], &dump["endpoints"][0], &dump["revision"]), (&network, &endpoint, &json!(3)));
    let metrics = api.raw("GET", "/metrics", None).await;
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("\nnetd_published_ports 1\n") && metrics.contains("\nnetd_ready 1\n"), "{metrics}");

    assert_eq!(api.ask("DELETE", "/v1/networks/net1", None).await.0, 409);
    assert_eq!(api.raw("DELETE", "/v1/networks/net1/endpoints/web", None).await, Reply { status: 204, body: vec![] });
    assert_eq!(api.ask("POST", "/v1/networks/prune", None).await, (200, json!({"removed": ["net1"]})));
    assert_eq!(api.ask("GET", "/v1/networks", None).await, (200, json!([])));
    api.ready.store(false, Ordering::Release);
    assert_eq!(api.ask("GET", "/v1/status", None).await.1["ready"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_one_clear_line_and_change_nothing() {
    let api = serve();
    api.ask("POST", "/v1/networks", Some(json!({"name": "net1"}))).await;
    let (_, before) = api.ask("GET", "/v1/dump", None).await;
    let large = json!({"name": "x".repeat(2 << 20)}).to_string();
    let endpoints = "/v1/networks/net1/endpoints";
    for (method, path, body, status, code, words) in [
        ("POST", "/v1/networks", "", 400, "invalid", "empty"),
        ("POST", "/v1/networks", "{", 400, "invalid", "invalid JSON: EOF"),
        ("POST", "/v1/networks", "{}x", 400, "invalid", "invalid"),
        ("POST", "/v1/networks", "[]", 400, "invalid", "the body is a list"),
        ("POST", "/v1/networks", "{\"name\":\"a\",\"nmae\":1}", 400, "invalid", "unknown field `nmae`"),
        ("POST", "/v1/networks", "{\"name\":\"a\",\"mtu\":\"x\"}", 400, "invalid", "mtu: invalid type"),
        ("POST", "/v1/networks", "{\"name\":\"a\",\"subnets\":[{\"x\":1}]}", 400, "invalid", "unknown field `x`"),
        ("POST", "/v1/networks", "{\"name\":\"a b\"}", 400, "invalid", "invalid network name \"a b\""),
        ("POST", "/v1/networks", "{\"name\":\"net1\"}", 409, "conflict", "network net1 already exists"),
        ("POST", "/v1/networks", large.as_str(), 413, "too_large", "1048576"),
        ("GET", "/v1/networks/nope", "", 404, "not_found", "no network \"nope\""),
        ("DELETE", "/v1/networks/nope", "", 404, "not_found", "no network \"nope\""),
        ("GET", "/v1/networks/%ff", "", 400, "invalid", "invalid path"),
        ("GET", "/v1/containers/nope", "", 404, "not_found", "no container \"nope\""),
        ("POST", endpoints, "{\"container\":\"web\"}", 404, "not_found", "searched"),
        (
            "POST",
            endpoints,
            "{\"container\":\"w\",\"ports\":[\"1\",\"x\"]}",
            400,
            "invalid",
            "ports[1]: invalid port \"x\"",
        ),
        ("POST", endpoints, "{\"container\":\"w\",\"pid\":1,\"ip\":\"x\"}", 400, "invalid", "IP address"),
        ("POST", "/v1/networks/nope/endpoints", "{\"container\":\"w\",\"pid\":1}", 404, "not_found", "nope"),
        ("DELETE", "/v1/networks/net1/endpoints/web", "", 404, "not_found", "not connected"),
        ("GET", "/v1/resolve", "", 400, "invalid", "missing field `name`"),
        ("GET", "/v1/resolve?name=a&typ=A", "", 400, "invalid", "unknown field `typ`"),
        ("GET", "/v1/resolve?name=a&type=ZZ", "", 400, "invalid", "record type"),
        ("GET", "/v1/resolve?name=a&from=nope", "", 404, "not_found", "no container \"nope\""),
        ("PUT", "/v1/dns/log/nope", "", 404, "not_found", "no container \"nope\""),
        ("DELETE", "/v1/dns/log/nope", "", 404, "not_found", "no container \"nope\""),
        ("GET", "/v1/dns/log/nope", "", 404, "not_found", "no container \"nope\""),
        ("GET", "/v1/dns/log/nope?folow=true", "", 400, "invalid", "unknown field `folow`"),
        ("POST", "/v1/dns/log", "{}", 405, "method_not_allowed", "does not take POST"),
        ("PUT", "/v1/networks", "", 405, "method_not_allowed", "does not take PUT"),
        ("GET", "/v1/nothing", "", 404, "not_found", "openapi.json"),
        ("GET", "/", "", 404, "not_found", "openapi.json"),
    ] {
        let reply = api.raw(method, path, (!body.is_empty()).then(|| body.to_owned())).await;
        let text = String::from_utf8(reply.body).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text:?}"));
        let message = json["error"]["message"].as_str().unwrap();
        let short = &body[..body.len().min(80)];
        assert_eq!(
            (reply.status, json["error"]["code"].as_str()),
            (status, Some(code)),
            "{method} {path} {short}: {text}"
        );
        assert!(message.contains(words), "{method} {path} {short}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
    assert_eq!(api.ask("GET", "/v1/dump", None).await.1, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_attaches_checks_and_collects() {
    let api = serve();
    let (path, check) = ("/v1/attachments/podman/c1/eth0", "/v1/attachments/podman/c1/eth0/check");
    let netns = "/run/netns/there";
    let request = json!({"netns": netns, "network": {"name": "net1"}, "name": "web", "ports": ["4000:80"]});
    let (status, attachment) = api.ask("PUT", path, Some(request.clone())).await;
    assert_eq!(status, 200, "{attachment}");
    let endpoint = &attachment["endpoint"];
    assert_eq!((&endpoint["container"], &endpoint["owner"]), (&json!({"id": "c1", "name": "web"}), &json!("podman")));
    assert_eq!(attachment["bridge"], "nd-net1");
    assert_eq!(attachment["routes"], json!([{"destination": "0.0.0.0/0", "gateway": "10.77.0.1"}]));
    let dns =
        json!({"nameservers": ["10.77.0.1"], "domain": "internal", "search": ["internal"], "options": ["ndots:0"]});
    assert_eq!(attachment["dns"], dns);
    assert_eq!(api.ask("PUT", path, Some(request)).await, (200, attachment.clone()), "again");
    assert_eq!(api.ask("POST", check, Some(json!({ "netns": netns }))).await.0, 204);
    let other = api.ask("POST", check, Some(json!({"netns": netns, "addresses": ["10.77.0.99/24"]}))).await;
    assert_eq!((other.0, &other.1["error"]["code"]), (409, &json!("changed")));
    assert_eq!(api.ask("GET", "/v1/networks/net1/room", None).await.0, 204);
    let valid = json!({"valid": [{"container": "c1", "ifname": "eth0"}]});
    assert_eq!(api.ask("POST", "/v1/attachments/podman/gc", Some(valid)).await, (200, json!({"released": []})));
    for _ in 0..2 {
        assert_eq!(api.ask("DELETE", path, None).await.0, 204);
    }
    assert_eq!(api.ask("POST", check, Some(json!({ "netns": netns }))).await.0, 404);
    let gone = api.ask("PUT", path, Some(json!({"netns": "/run/netns/nope", "network": {"name": "net1"}}))).await;
    assert_eq!((gone.0, &gone.1["error"]["code"]), (404, &json!("not_found")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_attaches_to_several_networks_or_to_none() {
    let api = serve();
    let path = "/v1/attachments/c1";
    let one = |ifname: &str, network: &str| json!({"ifname": ifname, "network": {"name": network}});
    let request = |attachments| json!({"netns": "/run/netns/there", "name": "web", "attachments": attachments});
    let both = request(json!([one("eth0", "net1"), one("eth1", "net2")]));
    let (status, attached) = api.ask("PUT", path, Some(both.clone())).await;
    assert_eq!(status, 200, "{attached}");
    let shown = |nth: usize| {
        let endpoint = &attached["attachments"][nth]["endpoint"];
        [&endpoint["network"], &endpoint["owner"], &endpoint["ifname"]].map(|text| text.as_str().unwrap().to_owned())
    };
    assert_eq!([shown(0), shown(1)], [["net1", "net1", "eth0"], ["net2", "net2", "eth1"]]);
    assert_eq!(attached["attachments"][1]["nameservers"], json!(["10.77.1.1"]));
    assert_eq!(attached["attachments"][1]["dns"]["nameservers"], json!(["10.77.0.1"]));
    assert_eq!(api.ask("PUT", path, Some(both)).await, (200, attached.clone()), "again");
    let before = api.ask("GET", "/v1/containers", None).await;
    for (attachments, code) in [
        (json!([]), "invalid"),
        (json!([one("eth2", "net3"), one("eth2", "net4")]), "invalid"),
        (json!([one("eth2", "net3"), one("eth0", "net4")]), "conflict"),
        (json!([{"ifname": "eth2", "network": {"name": "net3"}, "netns": "/run/netns/there"}]), "invalid"),
    ] {
        let (_, error) = api.ask("PUT", path, Some(request(attachments.clone()))).await;
        assert_eq!(error["error"]["code"], code, "{attachments}: {error}");
    }
    assert_eq!(api.ask("DELETE", "/v1/attachments/c1?only=net1", None).await.1["error"]["code"], "invalid");
    assert_eq!(api.ask("DELETE", "/v1/attachments/c1?all=yes", None).await.1["error"]["code"], "invalid");
    assert_eq!(api.ask("GET", "/v1/containers", None).await, before, "what is refused changes nothing");
    assert_eq!(api.ask("GET", "/v1/networks/net3", None).await.0, 404);
    assert_eq!(api.ask("DELETE", "/v1/attachments/c1?only=net1%2Feth0,other%2Feth9", None).await.0, 204);
    assert_eq!(api.ask("GET", "/v1/attachments/net1/c1/eth0", None).await.0, 404);
    assert_eq!(api.ask("GET", "/v1/attachments/net2/c1/eth1", None).await.0, 200);
    for _ in 0..2 {
        assert_eq!(api.ask("DELETE", path, None).await.0, 204);
    }
    assert_eq!(api.ask("GET", "/v1/endpoints", None).await.1, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_servers_of_a_network_are_changed() {
    let api = serve();
    api.ask("POST", "/v1/networks", Some(json!({"name": "net1"}))).await;
    let path = "/v1/networks/net1/dns";
    let (status, network) = api.ask("PUT", path, Some(json!({"servers": ["9.9.9.9", "tls://1.1.1.1"]}))).await;
    assert_eq!((status, &network["dns"]["servers"]), (200, &json!(["9.9.9.9", "tls://1.1.1.1"])), "{network}");
    for wrong in [json!({"servers": ["nowhere"]}), json!({}), json!({"servers": [], "more": 1})] {
        assert_eq!(api.ask("PUT", path, Some(wrong)).await.1["error"]["code"], "invalid");
    }
    assert_eq!(api.ask("PUT", "/v1/networks/no/dns", Some(json!({"servers": []}))).await.0, 404);
    assert_eq!(api.ask("GET", "/v1/networks/net1", None).await.1["dns"], network["dns"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_flow_until_the_server_stops() {
    let api = serve();
    let client = api.client.clone();
    let (begun, begin) = oneshot::channel();
    let reader = tokio::task::spawn_blocking(move || {
        let lines = client.lines("/v1/events").unwrap();
        begun.send(()).unwrap();
        lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()).collect::<Vec<_>>()
    });
    // The head of the stream has arrived: it contains all events from now on.
    begin.await.unwrap();
    api.ask("POST", "/v1/networks", Some(json!({"name": "net1"}))).await;
    let request = json!({"container": "web", "pid": 1, "ports": ["4000:80"]});
    api.ask("POST", "/v1/networks/net1/endpoints", Some(request)).await;
    api.ask("DELETE", "/v1/networks/net1/endpoints/web", None).await;
    api.ask("DELETE", "/v1/networks/net1", None).await;
    api.stop.send(()).unwrap();
    api.server.await.unwrap().unwrap();
    let events = reader.await.unwrap();
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["host", "network.create", "connect", "disconnect", "host", "network.remove"]);
    assert_eq!(events[2]["message"], "web connected to net1: eth0 10.77.0.2/24, *:4000->80/tcp");
    assert_eq!(events[2]["container"]["name"], "web");
    let time = events[0]["time"].as_str().unwrap();
    assert!(time.len() == "1970-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_may_be_called_prune() {
    let api = serve();
    api.ask("POST", "/v1/networks", Some(json!({"name": "prune"}))).await;
    assert_eq!(api.ask("GET", "/v1/networks/prune", None).await.1["name"], "prune");
    let request = json!({"container": "web", "pid": 1});
    assert_eq!(api.ask("POST", "/v1/networks/prune/endpoints", Some(request)).await.0, 201);
    assert_eq!(api.ask("DELETE", "/v1/networks/prune/endpoints/web", None).await.0, 204);
    assert_eq!(api.ask("PUT", "/v1/networks/prune", None).await.1["error"]["code"], "method_not_allowed");
    assert_eq!(api.ask("DELETE", "/v1/networks/prune", None).await.0, 204);
}

#[test]
fn every_operation_has_its_own_id_and_describes_failures() {
    let description = serde_json::to_value(super::description()).unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
        }
    }
}
