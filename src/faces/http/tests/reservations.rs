//! Tests reservations over HTTP.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_is_shown_until_a_container_takes_its_place() {
    let api = serve();
    api.ask("POST", "/v1/networks", Some(json!({"name": "net1"}))).await;
    let path = "/v1/networks/net1/reservations";
    let request = json!({"id": "r1", "ip": "10.77.0.9", "ports": ["4000:80"]});
    let (status, reservation) = api.ask("POST", path, Some(request.clone())).await;
    assert_eq!(status, 201, "{reservation}");
    let port = json!({"host_ip": null, "host_port": 4000, "container_port": 80, "protocol": "tcp"});
    assert_eq!(reservation["addresses"], json!(["10.77.0.9/24"]));
    assert_eq!(reservation["mac"], "02:6e:0a:4d:00:09");
    assert_eq!((&reservation["ports"], &reservation["network"]), (&json!([port]), &json!("net1")));
    for path in [path, "/v1/reservations"] {
        assert_eq!(api.ask("GET", path, None).await, (200, json!([reservation])), "{path}");
    }
    assert_eq!(api.ask("GET", "/v1/reservations/r1", None).await, (200, reservation.clone()));
    assert_eq!(api.ask("GET", "/v1/networks/net1", None).await.1["reservations"], json!(["r1"]));
    assert_eq!(api.ask("GET", "/v1/dump", None).await.1["reservations"], json!([reservation]));
    assert_eq!(api.ask("GET", "/v1/status", None).await.1["reservations"], 1);
    let metrics = String::from_utf8(api.raw("GET", "/metrics", None).await.body).unwrap();
    assert!(metrics.contains("\nnetd_reservations 1\n"), "{metrics}");

    for (method, path, body, status, words) in [
        ("POST", path, Some(request), 409, "reservation r1 already exists"),
        ("POST", path, Some(json!({"id": "r2", "ip": "10.77.0.9"})), 409, "taken by reservation r1"),
        ("POST", path, Some(json!({"id": "a b"})), 400, "invalid reservation id"),
        ("POST", "/v1/networks/nope/reservations", Some(json!({"id": "r2"})), 404, "no network"),
        ("DELETE", "/v1/networks/net1", None, 409, "in use by the reservations r1"),
        ("GET", "/v1/reservations/nope", None, 404, "no reservation \"nope\""),
        ("DELETE", "/v1/reservations/nope", None, 404, "no reservation \"nope\""),
    ] {
        let (got, reply) = api.ask(method, path, body).await;
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(got == status && message.contains(words), "{method} {path}: {got} {message}");
    }

    let request = json!({"container": "web", "netns": "/run/netns/there", "reservation": "r1"});
    let (status, endpoint) = api.ask("POST", "/v1/networks/net1/endpoints", Some(request)).await;
    assert_eq!((status, &endpoint["addresses"]), (201, &reservation["addresses"]));
    assert_eq!((&endpoint["mac"], &endpoint["ports"]), (&reservation["mac"], &reservation["ports"]));
    assert_eq!(api.ask("GET", "/v1/reservations", None).await, (200, json!([])));
    assert!(api.ask("GET", "/v1/networks/net1", None).await.1["reservations"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_and_its_release_are_events_and_can_be_planned() {
    let api = serve();
    api.ask("POST", "/v1/networks", Some(json!({"name": "net1"}))).await;
    let plan = json!({"reserve": {"network": "net1", "reservation": {"id": "r1", "ports": ["4000:80"]}}});
    let (status, steps) = api.ask("POST", "/v1/plan", Some(plan)).await;
    let text = "reserve 10.77.0.2/24, 02:6e:0a:4d:00:02, *:4000->80/tcp on network net1 as r1";
    assert_eq!((status, &steps[0]), (200, &json!({"action": "reserve", "text": text})));
    assert_eq!(steps[1], json!({"action": "hold-ports", "text": "bind 0.0.0.0:4000/tcp, [::]:4000/tcp"}));
    assert_eq!(api.ask("GET", "/v1/reservations", None).await.1, json!([]), "only planned");

    let mut events = api.handle.events();
    api.ask("POST", "/v1/networks/net1/reservations", Some(json!({"id": "r1"}))).await;
    let (_, steps) = api.ask("POST", "/v1/plan", Some(json!({"release_reservation": "r1"}))).await;
    assert_eq!(steps.as_array().map(Vec::len), Some(1), "nothing is held: {steps}");
    assert_eq!(api.raw("DELETE", "/v1/reservations/r1", None).await, Reply { status: 204, body: vec![] });
    let mut next = || format!("{:?}", events.try_recv().unwrap().change);
    assert!(next().starts_with("Reserved(") && next().starts_with("Released("));
}
