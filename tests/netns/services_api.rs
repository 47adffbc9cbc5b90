//! `netd service` with the real programs: from creation to removal, what a dry run leaves alone, and bad input.

use std::net::IpAddr;

use libtest_mimic::Trial;
use netd_testing::wait::is;

use crate::lab::{Lab, addresses, trial, until};
use crate::service_matrix::virtual_addresses;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("services: made, listed, updated, drained, removed", life),
        trial("services: a dry run shows what would change and changes nothing", dry_run),
        trial("services: bad input is one line and changes nothing", bad_input),
        trial("services: a kill -9 loses nothing, and a backup has them with their addresses", kept),
    ]
}

/// The states of the members, by name.
fn states(lab: &Lab, service: &str) -> Vec<String> {
    let members = lab.netd(&format!("service ps {service} --json")).ok().json();
    let state =
        |member: &serde_json::Value| format!("{} {}", member["container"]["name"], member["state"]).replace('"', "");
    members.as_array().unwrap().iter().map(state).collect()
}

fn life(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.9.0.0/24").ok();
    let create = "service create web --network net1,alias=www --select app=web --member db --mode vip -p 8080:80";
    assert_eq!(lab.netd(create).ok().stdout, "web on net1: 10.9.0.2, *:8080->80/tcp\n");
    lab.connected("net1", "w1", "--label app=web");
    lab.connected("net1", "db", "");
    lab.connected("net1", "other", "--label app=other");
    let on_bridge = |address: &str| addresses("host", "nd-net1").contains(&address.parse::<IpAddr>().unwrap());
    assert!(on_bridge("10.9.0.2"), "{:?}", addresses("host", "nd-net1"));
    let rows = lab.netd("service ls").ok().stdout;
    let row: Vec<&str> = rows.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], &row[2..]), ("web", &["vip", "2/2", "net1", "10.9.0.2", "*:8080->80/tcp"][..]), "{rows}");
    let shown = lab.netd("service inspect web").ok().stdout;
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["networks.0.aliases", "www"])), "{shown}");
    assert_eq!(states(lab, "web"), ["w1 ready", "db ready"]);

    assert!(lab.netd("service drain w1").ok().stdout.starts_with("w1 of web on net1 is draining"));
    assert_eq!(states(lab, "web"), ["w1 draining", "db ready"]);
    let line = lab.netd("service ps web -f state=draining --no-trunc").ok().stdout;
    assert!(line.contains("it is drained: see `netd service undrain`"), "{line}");
    lab.netd("service undrain w1").ok();
    lab.netd("service unready db").ok();
    assert_eq!(states(lab, "web"), ["w1 ready", "db unhealthy"]);
    lab.netd("service checked db").ok();

    let update = "service update web --mode dns --publish-add 8443:443 --publish-rm 80 --member-rm db";
    assert_eq!(lab.netd(update).ok().stdout, "web on net1: *:8443->443/tcp\n");
    assert!(!on_bridge("10.9.0.2"), "its address is gone");
    assert_eq!(states(lab, "web"), ["w1 ready"]);
    lab.netd("disconnect net1 w1").ok();
    assert_eq!(states(lab, "web"), [""; 0]);
    lab.netd("disconnect net1 db").ok();
    lab.netd("disconnect net1 other").ok();
    let line = lab.netd("network rm net1").refused();
    assert!(line.contains("in use by the services web"), "{line}");
    assert_eq!(lab.netd("service rm web").ok().stdout, "web\n");
    assert_eq!(lab.netd("service ls -q").ok().stdout, "");
    assert_eq!(lab.diff(), "");
}

fn dry_run(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.9.0.0/24").ok();
    lab.netd("service create web --network net1 --member w1 --mode vip -p 8080:80").ok();
    lab.connected("net1", "w1", "");
    for (line, parts) in [
        ("create api --network net1 --mode vip -p 8081:80", &["create service api", "10.9.0.", "8081"][..]),
        ("update web --mode dns --publish-add 8082:82", &["update service web to version 2", "10.9.0.2", "8082"]),
        ("drain w1", &["drain w1"]),
        ("rm web", &["remove service web", "10.9.0.2", "8080"]),
    ] {
        let before = lab.everything();
        let shown = lab.netd(&format!("service {line} --dry-run")).ok().stdout;
        for part in parts {
            assert!(shown.contains(part), "`{line} --dry-run` does not show {part}:\n{shown}");
        }
        lab.unchanged_since(&before);
    }
}

fn bad_input(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("service create web --network net1 --member w1 -p 8080:80").ok();
    let before = lab.everything();
    for (line, code, words) in [
        ("create web", 2, "not provided: --network"),
        ("create a/b --network net1", 2, "invalid service name \"a/b\""),
        ("create api --network net1 --health icmp", 2, "use tcp:PORT, http:PORT/PATH, engine or none"),
        ("create api --network net1 --interval 10ms", 2, "at least 0.1 s apart"),
        ("create web --network net1", 1, "service web already exists"),
        ("create api --network nope", 1, "no network \"nope\""),
        ("create api --network net1 -p 8080:80", 1, "already published by service web"),
        ("update web --publish-rm 81", 1, "does not publish it"),
        ("update nope --grace 1", 1, "no service \"nope\""),
        ("rm nope", 1, "no service \"nope\""),
        ("ps nope", 1, "no service \"nope\""),
        ("drain nope", 1, "no container \"nope\""),
        ("scale web=x", 2, "use NAME=N"),
        ("scale web=2", 1, "service web has no tasks"),
        ("logs web", 1, "service web has no tasks"),
    ] {
        let out = lab.netd(&format!("service {line}"));
        assert_eq!(
            (out.code, out.stdout.as_str(), out.stderr.lines().count()),
            (Some(code), "", 1),
            "{line}: {}",
            out.stderr
        );
        assert!(out.stderr.starts_with("netd: ") && out.stderr.contains(words), "{line}: {}", out.stderr);
    }
    lab.unchanged_since(&before);
}

fn kept(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "w1", "");
    lab.netd("service create web --network net1 --member w1 --mode vip -p 8080:80").ok();
    lab.netd("service drain w1").ok();
    let (before, at) = (lab.netd("service inspect web --json").ok().stdout, virtual_addresses(lab, "web"));
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(lab.netd("service inspect web --json").ok().stdout, before);
    assert_eq!(states(lab, "web"), ["w1 draining"]);
    until("nothing differs", || is(lab.diff(), ""));

    lab.netd("backup /run/lab/backup.json").ok();
    lab.netd("service rm web").ok();
    // Others may get its addresses until it is restored.
    let restored = lab.netd("restore /run/lab/backup.json").ok().stdout;
    assert_eq!(restored, "net1 unchanged\nservice web created\n");
    assert_eq!(virtual_addresses(lab, "web"), at);
    assert!(at.iter().all(|address| addresses("host", "nd-net1").contains(address)), "{at:?}");
    assert_eq!(states(lab, "web"), ["w1 draining"], "what was said of the container stays");
}
