//! Tests the client against a minimal server.

use super::*;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

/// Answers one connection with fixed bytes and returns the request that it received.
fn serve(reply: &'static [u8]) -> (tempfile::TempDir, Client, JoinHandle<String>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("netd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(reply).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (directory, Client::new(path), server)
}

#[test]
fn a_request_carries_its_json() {
    let (_directory, client, server) =
        serve(b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n");
    let reply: serde_json::Value = client.post("/v1/networks", &serde_json::json!({"name": "n"})).unwrap();
    assert_eq!(reply["a"], 1);
    let request = server.join().unwrap();
    assert!(request.starts_with("POST /v1/networks HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"name\":\"n\"}"), "{request}");
}

#[test]
fn success_needs_no_body() {
    const DONE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
    let (_directory, client, server) = serve(DONE);
    client.tell("/x/check", &serde_json::json!({"netns": "/x"})).unwrap();
    let request = server.join().unwrap();
    assert!(request.starts_with("POST /x/check ") && request.ends_with("{\"netns\":\"/x\"}"), "{request}");
    let (_directory, client, server) = serve(DONE);
    client.ask("/x/room").unwrap();
    assert!(server.join().unwrap().starts_with("GET /x/room "));
    let (_directory, client, server) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7");
    assert_eq!(client.put::<u8>("/x", &serde_json::json!(1)).unwrap(), 7);
    assert!(server.join().unwrap().starts_with("PUT /x "));
}

#[test]
fn a_refusal_keeps_the_daemons_words() {
    let (_directory, client, _server) = serve(
        b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n\
          37\r\n{\"error\":{\"code\":\"not_found\",\"message\":\"no network x\"}}\r\n0\r\n\r\n",
    );
    let error = client.get::<serde_json::Value>("/v1/networks/x").unwrap_err();
    assert_eq!((error.status(), error.to_string().as_str()), (Some(404), "no network x"));
}

#[test]
fn an_answer_of_another_program_is_reported() {
    let (_directory, client, _server) = serve(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\noops");
    let error = client.delete("/v1/networks/x").unwrap_err().to_string();
    assert_eq!(error, "the daemon answered 502 oops");
    let (_directory, client, _server) = serve(b"220 smtp ready\r\n\r\n");
    assert!(client.delete("/").unwrap_err().to_string().contains("is it netd's socket?"));
}

#[test]
fn lines_come_one_by_one_and_a_cut_is_an_error() {
    let (_directory, client, _server) =
        serve(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\none\ntw\r\n2\r\no\n\r\n0\r\n\r\n");
    let lines: Vec<String> = client.lines("/v1/events").unwrap().map(Result::unwrap).collect();
    assert_eq!(lines, ["one", "two"]);
    let (_directory, client, _server) = serve(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n");
    let mut lines = client.lines("/v1/events").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    assert!(lines.next().unwrap().is_err());
}

#[test]
fn a_daemon_that_is_not_there_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("netd.sock");
    let error = Client::new(&missing).delete("/").unwrap_err();
    assert!(error.is_unreachable());
    let text = error.to_string();
    assert!(text.contains(missing.to_str().unwrap()) && text.contains("is it running?"), "{text}");

    drop(UnixListener::bind(&missing).unwrap());
    let text = Client::new(&missing).delete("/").unwrap_err().to_string();
    assert!(text.contains("is it running?"), "{text}");

    let long = directory.path().join("x".repeat(200));
    assert!(Client::new(long).delete("/").unwrap_err().is_unreachable());
}

#[test]
fn a_silent_daemon_is_not_waited_for_longer_than_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("netd.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = Client::new(&path).with_patience(Duration::ZERO).delete("/").unwrap_err().to_string();
    assert!(error.contains("did not answer in time"), "{error}");
}

#[test]
fn segments_are_encoded() {
    assert_eq!(segment("web-1.a_b~"), "web-1.a_b~");
    assert_eq!(segment("a b/ü?"), "a%20b%2F%C3%BC%3F");
}
