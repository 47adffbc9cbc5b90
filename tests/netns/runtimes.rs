//! Containers of a runtime: found by name through the Docker API socket. A small HTTP server answers like Docker 29;
//! real runtimes are in ring 4.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use libtest_mimic::Trial;
use netd_testing::wait::seen;

use crate::lab::look::links;
use crate::lab::{Lab, addresses, trial, until};

const ID: &str = "4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e6d7c8b9a4f5e";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("runtimes: a running Docker container is connected by its name", by_name),
        trial("runtimes: a stopped container and an unresponsive API give a clear message", not_running),
    ]
}

/// Answers every request on Docker's socket until the laboratory's mounts go.
fn docker(pid: u32) {
    serve("/run/docker.sock", move |path| reply(path, pid));
}

/// Answers every request on a runtime's socket with what `reply` says to its path: a status and a body.
pub(crate) fn serve(socket: &str, reply: impl Fn(&str) -> (&'static str, String) + Clone + Send + 'static) {
    let listener = UnixListener::bind(socket).expect("a socket");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let reply = reply.clone();
            thread::spawn(move || while answer(&stream, &reply).is_some() {});
        }
    });
}

fn answer(mut stream: &UnixStream, reply: &impl Fn(&str) -> (&'static str, String)) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).ok().filter(|length| *length > 0)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if header.trim().is_empty() {
            break;
        }
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    let path = request.split_whitespace().nth(1)?.split('?').next()?.to_owned();
    let (status, body) = reply(&path);
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).ok()
}

fn reply(path: &str, pid: u32) -> (&'static str, String) {
    let running = pid != 0;
    let state =
        format!(r#"{{"Status":"{}","Running":{running},"Pid":{pid}}}"#, if running { "running" } else { "exited" });
    let names = ["web", ID, &ID[..12]];
    if path.ends_with("/_ping") {
        return ("200 OK", "\"OK\"".to_owned());
    }
    if path.ends_with("/version") {
        return ("200 OK", r#"{"Version":"29.0.0","ApiVersion":"1.52","MinAPIVersion":"1.44"}"#.to_owned());
    }
    if names.iter().any(|name| path.ends_with(&format!("/containers/{name}/json"))) {
        let net = r#""NetworkSettings":{"SandboxKey":"","Networks":{}}"#;
        return ("200 OK", format!(r#"{{"Id":"{ID}","Name":"/web","State":{state},{net}}}"#));
    }
    if path.ends_with("/containers/json") {
        return ("200 OK", format!(r#"[{{"Id":"{ID}","Names":["/web"],"State":"running"}}]"#));
    }
    ("404 Not Found", r#"{"message":"No such container"}"#.to_owned())
}

fn sleeper(ns: &str) -> Child {
    let mut command = Command::new("nsenter");
    command.args([&format!("--net=/run/netns/{ns}"), "--", "sleep", "120"]).stdin(Stdio::null());
    let child = command.spawn().expect("a process");
    let own = || std::fs::read_link(format!("/proc/{}/ns/net", child.id())).ok();
    let ours = std::fs::read_link("/proc/self/ns/net").ok();
    until("the process is in its namespace", || seen(own(), |own| *own != ours));
    child
}

fn by_name(lab: &Lab) {
    lab.container("hidden-sandbox");
    let mut process = sleeper("hidden-sandbox");
    docker(process.id());
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("connect net1 web").ok();
    let shown = lab.endpoint("net1", "web");
    assert_eq!(shown["container"]["id"], ID);
    assert_eq!(addresses("hidden-sandbox", "nd0"), lab.address("net1", "web"));
    lab.connected("net1", "client", "");
    let address = lab.address("net1", "web")[0].to_string();
    crate::lab::Dig::expect("client", &ID[..12], &[&address]);
    lab.netd("disconnect net1 web").ok();
    assert_eq!(links("hidden-sandbox"), ["lo"]);
    process.kill().unwrap();
    process.wait().unwrap();
}

fn not_running(lab: &Lab) {
    docker(0);
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let line = lab.netd("connect net1 web").refused();
    assert!(line.contains("web") && line.contains("running"), "{line}");
    // It never accepts a connection.
    std::fs::create_dir("/run/podman").expect("a folder");
    let _silent = UnixListener::bind("/run/podman/podman.sock").expect("a socket");
    let line = lab.netd("connect net1 nobody").refused();
    assert!(line.contains("nobody") && line.contains("/run/docker.sock"), "{line}");
    assert!(line.contains("/run/podman/podman.sock") && !line.contains("not there"), "{line}");
}
