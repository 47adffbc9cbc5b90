//! The main job: containers on net1 find each other by name, and other hosts reach `-p 4000:80`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::lab::look::{elements, links, published, ruleset};
use crate::lab::{Dig, HOST4, Lab, OUTSIDE4, Proto, Server, addresses, ask, daemon, echo, run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("main job: a name, a port, and a complete removal", the_main_job),
        trial("main job: name and port answer when connect returns, and do not when disconnect returns", at_once),
        trial("main job: ps, port, inspect, resolve, dump, status, version show it", what_is_shown),
        trial("main job: events are a JSON line per change", events),
        trial("main job: completions, man pages and OpenAPI are generated", generated),
        trial("main job: the daemon exits with success on SIGTERM, and traffic continues", sigterm),
        trial("main job: two daemons run side by side in namespaces of their own", two_daemons),
    ]
}

fn the_main_job(lab: &Lab) {
    lab.start_daemon();
    let (rules, before) = (ruleset(), links("host"));
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80");
    lab.connected("net1", "client", "");
    let address = addresses("web", "eth0").first().expect("web has an address").to_string();
    let _server = Server::start("web", "web", 80);

    Dig::expect("client", "web", &[&address]);
    let reply = ask("outside", Proto::Tcp, (HOST4, 4000));
    assert_eq!((reply.who.as_str(), reply.saw.to_string().as_str()), ("web", OUTSIDE4));
    assert_eq!(ask("client", Proto::Tcp, (&address, 80)).who, "web");
    assert!(ruleset().contains("table inet netd") && published().contains("4000"), "{}", ruleset());

    let host_ifname = lab.endpoint("net1", "web")["host_ifname"].as_str().unwrap().to_owned();
    assert!(links("host").contains(&host_ifname), "{host_ifname}: {:?}", links("host"));
    lab.netd("disconnect net1 web").ok();
    Dig::expect_none("client", "web", "NXDOMAIN");
    echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
    assert_eq!(links("web"), ["lo"]);
    assert!(!links("host").contains(&host_ifname), "{:?}", links("host"));
    assert!(!published().contains("4000") && !elements().contains(&address), "{}", elements());
    assert!(!fs::exists("/etc/netns/web/resolv.conf").unwrap());

    lab.netd("disconnect net1 client").ok();
    lab.netd("network rm net1").ok();
    assert_eq!(links("host"), before);
    assert_eq!(ruleset(), rules, "the table is as before the first network");
}

fn at_once(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "client", "");
    lab.container("web");
    let _server = Server::start("web", "web", 80);
    for _ in 0..10 {
        lab.netd("connect net1 web -p 4000:80").ok();
        assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
        assert_eq!(Dig::ask("client", "web").answers.len(), 1);
        lab.netd("disconnect net1 web").ok();
        Dig::expect_none("client", "web", "NXDOMAIN");
        let refused = echo::answers("outside", Proto::Tcp, (HOST4, 4000));
        assert_eq!(refused, None, "the port is closed");
    }
}

fn what_is_shown(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80 --alias www");
    let address = lab.address("net1", "web")[0].to_string();
    for (line, parts) in [
        ("ps", vec!["web", "net1", &address, "4000", "80"]),
        ("port web", vec!["4000", "80/tcp"]),
        ("network ls", vec!["net1", "bridge"]),
        ("resolve web --from web", vec![&address]),
        ("resolve www.net1 A --from web", vec![&address]),
        ("dump", vec!["net1", "web", "4000"]),
        ("status", vec!["ready"]),
    ] {
        let shown = lab.netd(line).ok().stdout.to_lowercase();
        for part in parts {
            assert!(shown.contains(part), "`netd {line}` does not show {part}:\n{shown}");
        }
    }
    for line in ["ps", "port web", "network ls", "inspect web", "network inspect net1"] {
        let value = lab.netd(&format!("{line} --json")).ok().json();
        assert_eq!(value.as_array().map(Vec::len), Some(1), "{line} --json prints an array: {value}");
    }
    for line in ["status", "dump", "resolve web --from web"] {
        lab.netd(&format!("{line} --json")).ok().json();
    }
    assert!(lab.netd("version").ok().stdout.contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(lab.netd("dump").ok().stdout, lab.netd("dump").ok().stdout);
    let metrics = lab.http("GET", "/metrics", "");
    assert!(metrics.0 == 200 && metrics.1.contains("# TYPE"), "{metrics:?}");
    let closed = lab.shell("host", &format!("{} ps | true", daemon::netd()));
    assert!(closed.stderr.is_empty(), "a closed pipe is success: {closed:?}");
}

fn events(lab: &Lab) {
    lab.start_daemon();
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", daemon::netd(), "events", "--json", "--socket", daemon::SOCKET]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("netd events");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (sender, receiver) = channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    // The first line comes when the command is subscribed; until then changes would be missed.
    let mut made = 0;
    crate::lab::until("an event arrives", || {
        made += 1;
        lab.netd(&format!("network create n{made}")).ok();
        receiver.recv_timeout(Duration::from_millis(200))
    });
    lab.netd("network create last --label why=test").ok();
    lab.connected("last", "web", "-p 4000:80");
    lab.netd("disconnect last web").ok();
    let mut seen = Vec::new();
    while let Ok(line) = receiver.recv_timeout(Duration::from_secs(3)) {
        let event: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
        assert!(event.is_object(), "{line}");
        if line.contains("last") {
            seen.push(line);
        }
        if seen.len() == 3 {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen.len(), 3, "created, connected, disconnected: {seen:#?}");
    assert!(seen[1].contains("web") && seen[2].contains("web"), "{seen:#?}");
}

fn generated(lab: &Lab) {
    for shell in ["bash", "zsh", "fish"] {
        assert!(lab.netd(&format!("completions {shell}")).ok().stdout.contains("netd"), "{shell}");
    }
    lab.netd("man /run/lab/man").ok();
    let pages = fs::read_dir("/run/lab/man").unwrap().count();
    assert!(pages >= 10, "{pages} man pages");
    lab.start_daemon();
    let (status, body) = lab.http("GET", "/openapi.json", "");
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    for path in ["/v1/networks", "/v1/networks/{name}", "/v1/networks/{name}/endpoints", "/v1/status", "/v1/dump"] {
        assert!(document["paths"][path].is_object(), "{path}: {body}");
    }
    let help = lab.netd("connect -h").ok().stdout;
    assert!(help.contains("4000:80"), "-h shows examples: {help}");
}

fn sigterm(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80");
    let _server = Server::start("web", "web", 80);
    lab.stop_daemon();
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    let refused = lab.netd("ps").refused();
    assert!(refused.contains(daemon::SOCKET), "it names the socket: {refused}");
    lab.start_daemon();
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert!(lab.netd("ps").ok().stdout.contains("web"));
}

fn two_daemons(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    run("ip -n outside route add 10.77.0.0/16 via 192.0.2.1").ok();
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/outside", "--", daemon::netd(), "daemon", "--socket", "/run/lab/two.sock"]);
    command.args(["--state-dir", "/run/lab/two-state", "--runtime-dir", "/run/lab/two"]);
    let mut child = command.stderr(Stdio::null()).spawn().expect("a second daemon");
    let two = |words: &str| lab.netd(&format!("{words} --socket /run/lab/two.sock"));
    two("status --wait 10").ok();
    two("network create net1").ok();
    let subnet = two("network inspect net1 --json").ok().json()[0]["subnets"][0]["subnet"].clone();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!subnet.as_str().unwrap().starts_with("10.77."), "{subnet} is routed elsewhere");
    assert!(links("outside").iter().any(|name| name.starts_with("nd-")), "{:?}", links("outside"));
}
