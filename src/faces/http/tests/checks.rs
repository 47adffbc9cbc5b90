//! Tests which requests the listeners refuse before a route sees them: `Host`, signs of a web page, types of bodies.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A request for a new network with these headers.
fn post(name: &str, headers: &str) -> String {
    let body = format!("{{\"name\":\"{name}\"}}");
    let length = body.len();
    format!("POST /v1/networks HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

/// Status, code and message of a reply with the error body.
fn refusal(reply: &str) -> (&str, String, String) {
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let word = |field: &str| body["error"][field].as_str().unwrap().to_owned();
    (head.split(' ').nth(1).unwrap(), word("code"), word("message"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_the_unix_socket_declares_its_body_and_comes_from_no_web_page() {
    const JSON: &str = "Content-Type: application/json\r\n";
    let api = serve();
    for (headers, status, code, words) in [
        ("Host: localhost\r\n".to_owned(), "415", "unsupported_media_type", "Content-Type is absent"),
        (
            "Host: localhost\r\nContent-Type: text/plain\r\n".to_owned(),
            "415",
            "unsupported_media_type",
            "send application/json",
        ),
        (format!("{JSON}Host: evil.example\r\n"), "421", "misdirected", "Host is \"evil.example\": use localhost"),
        (JSON.to_owned(), "400", "invalid", "exactly one Host"),
        (format!("{JSON}Host: d\r\nHost: e\r\n"), "400", "invalid", "exactly one Host"),
        (format!("{JSON}Host: localhost\r\nOrigin: http://evil.example\r\n"), "403", "forbidden", "web pages"),
        (format!("{JSON}Host: localhost\r\nSec-Fetch-Site: cross-site\r\n"), "403", "forbidden", "web pages"),
    ] {
        let reply = api.bytes(post("refused", &headers)).await;
        let response = refusal(&reply);
        assert_eq!((response.0, response.1.as_str()), (status, code), "{headers}");
        assert!(response.2.contains(words), "{headers}: {}", response.2);
    }
    assert_eq!(api.ask("GET", "/v1/networks", None).await, (200, json!([])), "nothing has changed");
    let hosts = ["localhost", "netd", "d", "", "api.moby.localhost", "127.0.0.1:80"];
    for (number, host) in hosts.into_iter().enumerate() {
        let headers = format!("Host: {host}\r\nContent-Type: application/json; charset=utf-8\r\n");
        let reply = api.bytes(post(&format!("net{number}"), &headers)).await;
        assert!(reply.starts_with("HTTP/1.1 201 "), "{host:?}: {reply}");
    }
    let request = "PUT /v1/networks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let reply = api.bytes(request.into()).await;
    assert!(reply.starts_with("HTTP/1.1 405 ") && reply.to_ascii_lowercase().contains("allow: "), "{reply}");
}

#[tokio::test]
async fn the_metrics_are_for_those_who_call_the_machine_by_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = crate::faces::http::metrics_router(testing::engine(), testing::names(), Arc::default());
    tokio::spawn(async move {
        let names = ["node.example".parse().unwrap()];
        serve::serve_public(listener, &names, router, Capacity::default(), std::future::pending()).await
    });
    let ask = async |request: String| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    };
    for host in [&address.to_string(), "localhost", "node", "node.example:9153", "Node.Example"] {
        let reply = ask(format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 200 ") && reply.contains("netd_ready 0"), "{host}: {reply}");
    }
    let reply = ask("GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".into()).await;
    let (status, code, message) = refusal(&reply);
    assert_eq!((status, code.as_str()), ("421", "misdirected"));
    assert!(message.contains("`hosts` of [metrics]"), "{message}");
    let reply = ask(post("net1", "Host: localhost\r\n")).await;
    let (status, code, _) = refusal(&reply);
    assert_eq!((status, code.as_str()), ("415", "unsupported_media_type"));
}
