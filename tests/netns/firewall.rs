//! What the firewall must block or leave alone: access to loopback publications, false sources, other programs' tables.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::lab::look::ruleset;
use crate::lab::{HOST4, Lab, OUTSIDE4, Proto, Server, ask, ask_from, command, echo, ip_json, run, space, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "firewall: a port published on 127.0.0.1 is not reachable from outside or from a container",
            loopback_only,
        ),
        trial("firewall: a service on the host's 127.0.0.1 is not reachable from a container", host_loopback),
        trial("firewall: a container cannot send with another source address", false_source),
        trial("firewall: netd leaves other tables and chains alone", other_tables),
        trial(
            "firewall: publications are elements of one table, and a foreign drop wins with report",
            structure_is_one_table,
        ),
    ]
}

/// Lets a namespace send packets to 127.0.0.1 through a gateway, as an attacker on the link would.
fn send_loopback_by(ns: &str, dev: &str, gateway: &str) {
    space::sysctl(ns, &format!("net/ipv4/conf/{dev}/route_localnet"), "1");
    space::sysctl(ns, "net/ipv4/conf/all/route_localnet", "1");
    run(&format!("ip -n {ns} address delete 127.0.0.1/8 dev lo")).ok();
    run(&format!("ip -n {ns} route add 127.0.0.1/32 via {gateway} dev {dev}")).ok();
}

fn loopback_only(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 127.0.0.1:4001:80 -p 127.0.0.1:4001:80/udp");
    lab.connected("net1", "bad", "");
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    let _server = Server::start("web", "web", 80);
    send_loopback_by("outside", "uplink", HOST4);
    send_loopback_by("bad", "eth0", &gateway);
    for open in [false, true] {
        if open {
            // Other software on the host (kube-proxy) may have disabled the kernel's own protection.
            space::sysctl("host", "net/ipv4/conf/all/route_localnet", "1");
        }
        for proto in [Proto::Tcp, Proto::Udp] {
            assert_eq!(ask("host", proto, ("127.0.0.1", 4001)).who, "web");
            echo::expect_no_answer("host", proto, (HOST4, 4001));
            echo::expect_no_answer("outside", proto, (HOST4, 4001));
            echo::expect_no_answer("outside", proto, ("127.0.0.1", 4001));
            echo::expect_no_answer("bad", proto, ("127.0.0.1", 4001));
            echo::expect_no_answer("bad", proto, (HOST4, 4001));
        }
    }
}

fn host_loopback(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 127.0.0.1:4001:80");
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    let _server = Server::at("host", "host", SocketAddr::from(([127, 0, 0, 1], 9000)));
    assert_eq!(ask("host", Proto::Tcp, ("127.0.0.1", 9000)).who, "host");
    send_loopback_by("web", "eth0", &gateway);
    for proto in [Proto::Tcp, Proto::Udp] {
        echo::expect_no_answer("web", proto, ("127.0.0.1", 9000));
    }
}

fn false_source(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2").ok();
    lab.connected("net1", "bad", "");
    lab.connected("net2", "victim", "");
    let victim = lab.address("net2", "victim")[0].to_string();
    let ear = space::inside("outside", || UdpSocket::bind("[::]:7000")).unwrap();
    ear.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let heard = || ear.recv_from(&mut [0; 64]).map(|(_, from)| from.ip().to_canonical());
    let say = |from: Option<&str>, to: &str| {
        let from: Option<IpAddr> = from.map(|text| text.parse().unwrap());
        let to = SocketAddr::new(to.parse().unwrap(), 7000);
        // There is no reply: only what arrives outside counts.
        let _ = ask_from("bad", from, Proto::Udp, to, Duration::from_millis(50));
    };
    say(None, OUTSIDE4);
    assert_eq!(heard().unwrap().to_string(), HOST4, "a packet with its own source address arrives");
    for (source, to) in [("203.0.113.9", OUTSIDE4), (&victim, OUTSIDE4), ("2001:db8:bad::9", "2001:db8::2")] {
        let length = if source.contains(':') { "128 nodad" } else { "32" };
        run(&["ip -n bad address add ", source, "/", length, " dev eth0"].concat()).ok();
        say(Some(source), to);
        let arrived = heard();
        assert!(arrived.is_err(), "a packet with the false source {source} left the host as {arrived:?}");
    }
}

fn other_tables(lab: &Lab) {
    let mine = "table inet mine {\n\tset s { type ipv4_addr; elements = { 1.2.3.4 } }\n\tchain c {\n\t\ttype filter hook \
                input priority 0; policy accept;\n\t\tip saddr @s drop\n\t}\n}\n";
    let load = |text: &str| command::run_with_input(&["ip", "netns", "exec", "host", "nft", "-f", "-"], text).ok();
    load(mine);
    let shown = || run("ip netns exec host nft -s list table inet mine").ok().stdout;
    let before = shown();
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80");
    assert_eq!(shown(), before);
    lab.netd("disconnect net1 web").ok();
    lab.netd("network rm net1").ok();
    assert_eq!(shown(), before);
    let tables = run("ip netns exec host nft list tables").ok().stdout;
    let foreign = tables
        .lines()
        .filter(|line| !["table inet mine", "table inet netd", "table bridge netd"].contains(line))
        .count();
    assert_eq!(foreign, 0, "{tables}");
}

fn structure_is_one_table(lab: &Lab) {
    lab.start_daemon();
    for number in 1..=3 {
        lab.netd(&format!("network create net{number}")).ok();
        lab.connected(&format!("net{number}"), &format!("c{number}"), &format!("-p {}:80", 4000 + number));
    }
    let rules = |text: &str| text.lines().filter(|line| line.contains("dnat") || line.contains("drop")).count();
    let few = rules(&ruleset());
    for number in 4..=9 {
        lab.connected("net1", &format!("c{number}"), &format!("-p {}:80", 4000 + number));
    }
    let many = ruleset();
    assert_eq!(rules(&many), few, "publications are elements, not rules:\n{many}");
    // With `foreign = "report"`, another program's drop wins.
    lab.stop_daemon();
    std::fs::write(crate::lab::daemon::CONFIG, "[firewall]\nforeign = \"report\"\n").expect("a configuration");
    lab.start_daemon();
    let drop = "table inet fw { chain f { type filter hook forward priority 10; policy drop; }; }";
    command::run_with_input(&["ip", "netns", "exec", "host", "nft", "-f", "-"], drop).ok();
    let _server = Server::start("c1", "c1", 80);
    echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4001));
    assert!(!ip_json("host", "link show type bridge").is_empty());
}
