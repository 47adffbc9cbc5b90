//! Health probes of services: members are used while they take connections or answer, as seen from within their
//! namespaces.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::is;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::lab::space::inside;
use crate::lab::{Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("health: a member is ready while it listens at its own address", listens),
        trial("health: the status of an HTTP answer decides, and why a member is not used is said", answers),
        trial("health: neither an isolated network nor a firewall of the host is in the way", walled),
        trial("health: a container with its loopback down, and one on two networks of a service", odd),
        trial("health: what was found out outlives the daemon", restarted),
        trial("health: hundreds of members are probed", many),
    ]
}

const QUICK: &str = "--interval 200ms --timeout 400ms --retries 2";

/// A server that answers HTTP requests with a status that the test sets; it ends when dropped.
struct Server {
    status: Arc<AtomicU16>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(ns: &str, at: &str) -> Self {
        let listener = inside(ns, || TcpListener::bind(at)).unwrap_or_else(|error| panic!("{ns} {at}: {error}"));
        setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::new(0, 20_000)).unwrap();
        let (status, end) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicBool::new(false)));
        let (says, ends) = (status.clone(), end.clone());
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let Ok((mut client, _)) = listener.accept() else { continue };
                let _ = client.set_read_timeout(Some(Duration::from_millis(200)));
                let _ = client.read(&mut [0; 1024]);
                let status = says.load(Ordering::Relaxed);
                let _ = client.write_all(format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n").as_bytes());
            }
        });
        Self { status, end, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// The members of a service with their states, and the reason where one is not used.
fn members(lab: &Lab, service: &str) -> Vec<String> {
    let shown = lab.netd(&format!("service ps {service} --json")).ok().json();
    let text = |member: &serde_json::Value, field: &str| member[field].as_str().unwrap().to_owned();
    let name = |member: &serde_json::Value| member["container"]["name"].as_str().unwrap().to_owned();
    let line = |member| format!("{} {} {}", name(member), text(member, "state"), text(member, "why"));
    shown.as_array().unwrap().iter().map(|member| line(member).trim().to_owned()).collect()
}

#[track_caller]
fn become_(lab: &Lab, service: &str, expected: &[&str]) {
    until(&format!("members of {service} are as they should"), || is(members(lab, service), expected));
}

fn set_up(lab: &Lab, names: &[&str], check: &str) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    names.iter().for_each(|name| lab.connected("net1", name, "--label app=shop"));
    lab.netd(&format!("service create shop --network net1 --select app=shop {check} {QUICK}")).ok();
}

fn listens(lab: &Lab) {
    set_up(lab, &["web", "db"], "--health tcp:80");
    let starting = "starting no probe has succeeded yet";
    assert_eq!(members(lab, "shop"), [format!("web {starting}"), format!("db {starting}")]);
    let own = lab.address("net1", "web")[0];
    let loopback = Server::start("db", "127.0.0.1:80");
    let server = Server::start("web", "0.0.0.0:80");
    let other = lab.address("net1", "db")[0];
    let refuses = format!("db unhealthy {other}:80 refuses connections");
    become_(lab, "shop", &["web ready", &refuses]);
    drop(server);
    become_(lab, "shop", &[&format!("web unhealthy {own}:80 refuses connections"), &refuses]);
    drop(loopback);
    let _one = Server::start("web", &format!("{own}:80"));
    let _other = Server::start("db", "[::]:80");
    become_(lab, "shop", &["web ready", "db ready"]);
    // A member that is connected later is probed at once.
    lab.container("late");
    let _late = Server::start("late", "0.0.0.0:80");
    lab.netd("service update shop --interval 30s").ok();
    lab.netd("connect net1 late --label app=shop").ok();
    become_(lab, "shop", &["web ready", "db ready", "late ready"]);
    // Without probes nothing is asked, and all are used.
    lab.netd("service update shop --health none").ok();
    drop((_one, _other, _late));
    assert_eq!(members(lab, "shop"), ["web ready", "db ready", "late ready"]);
}

fn answers(lab: &Lab) {
    set_up(lab, &["web"], "--health http:8080/healthz");
    let own = lab.address("net1", "web")[0];
    let server = Server::start("web", "0.0.0.0:8080");
    server.status.store(500, Ordering::Relaxed);
    let why = |status: u16| format!("web unhealthy http://{own}:8080/healthz is answered with status {status}");
    become_(lab, "shop", &[&why(500)]);
    server.status.store(404, Ordering::Relaxed);
    become_(lab, "shop", &[&why(404)]);
    for good in [204, 302] {
        server.status.store(good, Ordering::Relaxed);
        become_(lab, "shop", &["web ready"]);
        server.status.store(503, Ordering::Relaxed);
        become_(lab, "shop", &[&why(503)]);
    }
    drop(server);
    // One that takes connections and says nothing: the kernel takes them for it.
    let _silent = inside("web", || TcpListener::bind("0.0.0.0:8080")).unwrap();
    become_(lab, "shop", &[&format!("web unhealthy no answer from {own}:8080 within 400ms")]);
    lab.netd("service update shop --health http").ok();
    until("the check has no port", || is(members(lab, "shop")[0].contains("names no port"), &true));
}

fn walled(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    run("ip netns exec host nft add table inet other").ok();
    for hook in ["input", "output", "forward"] {
        let chain = format!("add chain inet other {hook} {{ type filter hook {hook} priority 10; policy drop; }}");
        lab.shell("host", &format!("nft '{chain}'")).ok();
    }
    lab.differs("another program's table drops everything");
    lab.netd("network create apart --internal -o gateway_mode=isolated").ok();
    for (network, name) in [("net1", "web"), ("apart", "db")] {
        lab.connected(network, name, "");
        lab.netd(&format!("service create s-{name} --network {network} --member {name} --health tcp:80 {QUICK}")).ok();
    }
    let _servers = ["web", "db"].map(|name| Server::start(name, "0.0.0.0:80"));
    become_(lab, "s-web", &["web ready"]);
    become_(lab, "s-db", &["db ready"]);
}

fn odd(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create net2 --ipv6").ok();
    run("ip netns add bare").ok();
    lab.connected("net1", "bare", "");
    lab.netd(&format!("service create lone --network net1 --member bare --health tcp:80 {QUICK}")).ok();
    let _bare = Server::start("bare", "0.0.0.0:80");
    become_(lab, "lone", &["bare ready"]);
    lab.connected("net1", "web", "");
    lab.netd("connect net2 web").ok();
    let networks = "--network net1 --network net2";
    lab.netd(&format!("service create both {networks} --member web --health tcp:80 {QUICK}")).ok();
    let (first, second) = (lab.address("net1", "web")[0], lab.address("net2", "web")[0]);
    let one = Server::start("web", &format!("{first}:80"));
    let why = format!("web unhealthy {second}:80 refuses connections");
    become_(lab, "both", &[&why, &why]);
    drop(one);
    let _all = Server::start("web", "0.0.0.0:80");
    become_(lab, "both", &["web ready", "web ready"]);
}

fn restarted(lab: &Lab) {
    set_up(lab, &["web", "db"], "--health tcp:80");
    let server = Server::start("web", "0.0.0.0:80");
    let refuses = format!("db unhealthy {}:80 refuses connections", lab.address("net1", "db")[0]);
    become_(lab, "shop", &["web ready", &refuses]);
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(members(lab, "shop"), ["web ready", &refuses]);
    drop(server);
    become_(
        lab,
        "shop",
        &[&format!("web unhealthy {}:80 refuses connections", lab.address("net1", "web")[0]), &refuses],
    );
}

fn many(lab: &Lab) {
    const COUNT: usize = 150;
    let names: Vec<String> = (0..COUNT).map(|number| format!("c{number}")).collect();
    set_up(lab, &names.iter().map(String::as_str).collect::<Vec<_>>(), "--health tcp:80");
    let mut servers: Vec<Server> = names.iter().map(|name| Server::start(name, "0.0.0.0:80")).collect();
    let ready = || members(lab, "shop").iter().filter(|member| member.ends_with(" ready")).count();
    until("all are ready", || is(ready(), &COUNT));
    servers.truncate(COUNT / 2);
    until("half are ready", || is(ready(), &(COUNT / 2)));
}
