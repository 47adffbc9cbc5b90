//! Services over HTTP: their life, updates by several clients, what is refused.

use serde_json::{Value, json};

use super::serve;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_over_http() {
    let api = serve();
    api.ask("POST", "/v1/networks", Some(json!({"name": "net1"}))).await;
    let request =
        json!({"name": "web", "networks": ["net1"], "select": {"app": "web"}, "mode": "vip", "ports": ["4000:80"]});
    let (status, service) = api.ask("POST", "/v1/services", Some(request)).await;
    assert_eq!(status, 201, "{service}");
    assert_eq!(service["networks"], json!([{"network": "net1", "addresses": ["10.77.0.2"], "aliases": []}]));
    let port = json!({"host_ip": null, "host_port": 4000, "container_port": 80, "protocol": "tcp"});
    assert_eq!((&service["ports"], &service["replicas"]), (&json!([port]), &json!({"ready": 0, "all": 0})));
    let connect = json!({"container": "w1", "pid": 1, "labels": {"app": "web"}});
    api.ask("POST", "/v1/networks/net1/endpoints", Some(connect)).await;
    let (_, service) = api.ask("GET", "/v1/services/WEB", None).await;
    assert_eq!(service["replicas"], json!({"ready": 1, "all": 1}), "the name is compared without case");
    let by_id = format!("/v1/services/{}", &service["id"].as_str().unwrap()[..8]);
    assert_eq!(api.ask("GET", &by_id, None).await, (200, service.clone()));
    assert_eq!(api.ask("GET", "/v1/services", None).await, (200, json!([service])));

    let (status, members) = api.ask("POST", "/v1/members/w1", Some(json!({"action": "drain"}))).await;
    assert_eq!((status, &members[0]["state"], &members[0]["service"]), (200, &json!("draining"), &json!("web")));
    assert!(members[0]["since"].is_string(), "{members}");
    assert_eq!(api.ask("GET", "/v1/services/web/members", None).await, (200, members.clone()));
    let (_, dump) = api.ask("GET", "/v1/dump", None).await;
    assert_eq!((&dump["services"][0]["name"], &dump["members"]), (&json!("web"), &members));
    assert_eq!(api.ask("GET", "/v1/status", None).await.1["services"], 1);

    let update = json!({"version": 1, "publish_add": ["4001:81"], "mode": "dns", "labels": {"a": "b"}});
    let (status, updated) = api.ask("PATCH", "/v1/services/web", Some(update.clone())).await;
    assert_eq!((status, &updated["version"], &updated["mode"]), (200, &json!(2), &json!("dns")));
    assert_eq!((&updated["networks"][0]["addresses"], updated["ports"].as_array().unwrap().len()), (&json!([]), 2));
    assert_eq!(updated["select"], json!({"app": "web"}), "what is not given stays");
    let (status, late) = api.ask("PATCH", "/v1/services/web", Some(update)).await;
    assert_eq!((status, &late["error"]["code"]), (409, &json!("conflict")));

    let plan = json!({"update_service": {"service": "web", "update": {"publish_rm": ["80"]}}});
    let (status, steps) = api.ask("POST", "/v1/plan", Some(plan)).await;
    assert_eq!((status, &steps[0]["action"]), (200, &json!("update-service")));
    assert!(steps.as_array().unwrap().iter().any(|step| step["action"] == "release-ports"), "{steps}");
    assert_eq!(api.ask("GET", "/v1/services/web", None).await.1["version"], 2);
    assert_eq!(api.ask("DELETE", "/v1/networks/net1", None).await.0, 409);
    assert_eq!(api.raw("DELETE", "/v1/services/web", None).await.status, 204);
    assert_eq!(api.ask("GET", "/v1/services", None).await, (200, json!([])));
    let (status, answer) = api.ask("POST", "/v1/members/w1", Some(json!({"action": "undrain"}))).await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_update_of_several_clients_is_lost() {
    let api = serve();
    api.ask("POST", "/v1/networks", Some(json!({"name": "net1"}))).await;
    api.ask("POST", "/v1/services", Some(json!({"name": "web", "networks": ["net1"]}))).await;
    let add = |n: u16| api.ask("PATCH", "/v1/services/web", Some(json!({"member_add": [format!("w{n}")]})));
    let (a, b, c, d) = (add(1), add(2), add(3), add(4));
    let done = futures_util::join!(a, b, c, d);
    assert_eq!([done.0.0, done.1.0, done.2.0, done.3.0], [200; 4], "{done:?}");
    let (_, service) = api.ask("GET", "/v1/services/web", None).await;
    let mut members: Vec<&str> = service["members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    members.sort_unstable();
    assert_eq!((members, &service["version"]), (vec!["w1", "w2", "w3", "w4"], &json!(5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_about_services_get_one_clear_line_and_change_nothing() {
    let api = serve();
    api.ask("POST", "/v1/networks", Some(json!({"name": "net1"}))).await;
    api.ask("POST", "/v1/services", Some(json!({"name": "web", "networks": ["net1"], "ports": ["4000:80"]}))).await;
    api.ask("POST", "/v1/networks/net1/endpoints", Some(json!({"container": "alone", "pid": 1}))).await;
    let (_, before) = api.ask("GET", "/v1/dump", None).await;
    let many: Vec<String> = (0..65).map(|n| format!("{}:80", 5000 + n)).collect();
    for (method, path, body, status, words) in [
        ("POST", "/v1/services", json!({"networks": ["net1"]}), 400, "missing field `name`"),
        ("POST", "/v1/services", json!({"name": "x", "networks": []}), 400, "it needs a network"),
        ("POST", "/v1/services", json!({"name": "x", "networks": ["nope"]}), 404, "no network \"nope\""),
        (
            "POST",
            "/v1/services",
            json!({"name": "x", "networks": ["net1"], "replicas": 3}),
            400,
            "unknown field `replicas`",
        ),
        ("POST", "/v1/services", json!({"name": "Web", "networks": ["net1"]}), 409, "service web already exists"),
        (
            "POST",
            "/v1/services",
            json!({"name": "x", "networks": ["net1"], "ports": ["4000:80"]}),
            409,
            "by service web",
        ),
        ("POST", "/v1/services", json!({"name": "x", "networks": ["net1"], "ports": many}), 400, "at most 64 ports"),
        ("POST", "/v1/services", json!({"name": "alone", "networks": ["net1"]}), 409, "the name of container alone"),
        (
            "POST",
            "/v1/services",
            json!({"name": "x", "networks": ["net1"], "aliases": ["*.x"]}),
            400,
            "covers one name only",
        ),
        ("PATCH", "/v1/services/web", json!({"networks": []}), 400, "it needs a network"),
        ("PATCH", "/v1/services/web", json!({"name": "x"}), 400, "unknown field `name`"),
        ("PATCH", "/v1/services/web", json!({"ports": ["1:1", "1:2"]}), 400, "given twice"),
        ("PATCH", "/v1/services/nope", json!({}), 404, "no service \"nope\""),
        ("DELETE", "/v1/services/nope", Value::Null, 404, "no service \"nope\""),
        ("GET", "/v1/services/nope", Value::Null, 404, "no service \"nope\": see `netd service ls`"),
        ("GET", "/v1/services/nope/members", Value::Null, 404, "no service \"nope\""),
        ("POST", "/v1/members/nope", json!({"action": "drain"}), 404, "no container \"nope\""),
        ("POST", "/v1/members/alone", json!({"action": "drain"}), 400, "it is a member of no service"),
        ("POST", "/v1/members/alone", json!({"action": "stop"}), 400, "unknown variant `stop`"),
        ("POST", "/v1/members/a%20b", json!({"action": "drain"}), 400, "invalid container name"),
        ("PUT", "/v1/services/web", json!({}), 405, "does not take PUT"),
        ("POST", "/v1/plan", json!({"remove_service": "nope"}), 404, "no service \"nope\""),
    ] {
        let body = (!body.is_null()).then_some(body);
        let (answered, json) = api.ask(method, path, body.clone()).await;
        let message = json["error"]["message"].as_str().unwrap_or_default();
        assert!(answered == status && message.contains(words), "{method} {path} {body:?}: {answered} {json}");
        assert!(!message.contains('\n'), "{message}");
    }
    assert_eq!(api.ask("GET", "/v1/dump", None).await.1, before);
}
