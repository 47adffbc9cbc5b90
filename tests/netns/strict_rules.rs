//! Strict ports beside the rules of iptables, as ports of services, and in `netd port`.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{contains, is};

use crate::lab::echo::answers;
use crate::lab::{self, HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, run, skippable, space, trial, until};
use crate::strict::{BOTH, Cell, accepts, all_hold, host_accepts};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("strict: a policy of DROP of iptables-legacy", |lab| dropping(lab, "iptables-legacy")),
        skippable("strict: a policy of DROP of iptables-nft", |lab| dropping(lab, "iptables-nft")),
        trial("strict: ports of services", services),
        trial("strict: netd port says who reaches it", shown),
    ]
}

fn dropping(lab: &Lab, program: &str) -> Completion {
    let both = [program.to_owned(), program.replacen("iptables", "ip6tables", 1)];
    let each =
        |words: &str| both.iter().map(|one| run(&format!("ip netns exec host {one} {words}"))).collect::<Vec<_>>();
    if each("-P INPUT DROP").iter().any(|out| out.code != Some(0)) {
        return Completion::ignored_with(format!("{program} does not work here"));
    }
    each("-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT").into_iter().for_each(|out| drop(out.ok()));
    each("-A INPUT -i lo -j ACCEPT").into_iter().for_each(|out| drop(out.ok()));
    run("ip netns exec host ip6tables-nft -A INPUT -p ipv6-icmp -j ACCEPT").ok();
    each("-A INPUT -p ipv6-icmp -j ACCEPT");
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 -o publish=strict").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp");
    let _server = Server::start("web", "web", 80);
    let cells = |reaches| {
        let to = |host: &str| SocketAddr::new(host.parse().unwrap(), 4000);
        let of = |proto| {
            [(HOST4, OUTSIDE4), (HOST6, OUTSIDE6)].map(|(host, saw)| Cell {
                ns: "outside",
                to: to(host),
                proto,
                reaches,
                saw: saw.parse().ok(),
            })
        };
        BOTH.into_iter().flat_map(of).collect::<Vec<_>>()
    };
    all_hold(&cells(false));
    for protocol in ["tcp", "udp"] {
        each(&format!("-I INPUT -p {protocol} --dport 4000 -j ACCEPT")).into_iter().for_each(|out| drop(out.ok()));
    }
    all_hold(&cells(true));
    for protocol in ["tcp", "udp"] {
        each(&format!("-D INPUT -p {protocol} --dport 4000 -j ACCEPT")).into_iter().for_each(|out| drop(out.ok()));
    }
    all_hold(&cells(false));
    Completion::Completed
}

fn services(lab: &Lab) {
    host_accepts("");
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 -o publish=strict").ok();
    lab.netd("network create net2 --ipv6").ok();
    lab.connected("net1", "web", "");
    lab.connected("net2", "other", "");
    lab.netd("service create front --network net1 --mode vip --member web -p 4000:80 -p 4000:80/udp").ok();
    let _server = Server::start("web", "web", 80);
    let other = lab.address("net2", "other");
    let cells = |reaches| {
        let mut cells = Vec::new();
        for proto in BOTH {
            for (family, (host, outside)) in [(HOST4, OUTSIDE4), (HOST6, OUTSIDE6)].into_iter().enumerate() {
                let to = SocketAddr::new(host.parse().unwrap(), 4000);
                cells.push(Cell { ns: "outside", to, proto, reaches, saw: outside.parse().ok() });
                cells.push(Cell { ns: "other", to, proto, reaches, saw: Some(other[family]) });
                cells.push(Cell { ns: "host", to, proto, reaches: true, saw: None });
            }
        }
        cells
    };
    until("a member is used", || is(answers("host", Proto::Tcp, (HOST4, 4000)).is_some(), &true));
    all_hold(&cells(false));
    host_accepts(&accepts(4000));
    all_hold(&cells(true));
    assert_eq!(lab.diff(), "");
    lab.netd("service unready web").ok();
    for host in [HOST4, HOST6] {
        let to = SocketAddr::new(host.parse().unwrap(), 4000);
        let refused = || space::inside("outside", || TcpStream::connect_timeout(&to, Duration::from_secs(1)));
        until("nobody is there", || {
            is(refused().map_err(|error| error.kind()).err(), &Some(ErrorKind::ConnectionRefused))
        });
    }
}

/// What `netd port` says of the first port of a container.
fn reachable_by(lab: &Lab, container: &str) -> String {
    let shown = lab.netd(&format!("port {container} --json")).ok().json();
    shown[0]["reachable_by"].as_str().expect("a text").to_owned()
}

/// What it says is compared with what clients find.
fn shown(lab: &Lab) {
    run("ip -n outside address add 198.51.100.2/32 dev lo").ok();
    run("ip -n host route add 198.51.100.2/32 via 192.0.2.2").ok();
    host_accepts("");
    lab.start_daemon();
    lab.netd("network create net1 -o publish=strict").ok();
    lab.connected("net1", "web", "-p 4000:80/udp");
    let _server = Server::start("web", "web", 80);
    let asked = |from: &str| {
        let to = SocketAddr::new(HOST4.parse().unwrap(), 4000);
        lab::ask_from("outside", from.parse().ok(), Proto::Udp, to, Duration::from_millis(900)).is_ok()
    };
    for (rule, words, near, far) in [
        ("", "this host only: chain input of table inet host (policy drop)", false, false),
        ("udp dport 4000 accept", "every host that reaches this one", true, true),
        ("ip saddr 192.0.2.0/24 udp dport 4000 accept", "some others: from 192.0.2.0/24: chain input", true, false),
        ("ip saddr 198.51.100.0/24 drop\n  udp dport 4000 accept", "from 198.51.100.0/24: chain input", true, false),
        (
            "udp dport 4000 drop\n  udp dport 4000 accept",
            "this host only: chain input of table inet host (drop",
            false,
            false,
        ),
        ("tcp dport 4000 accept", "(policy drop)", false, false),
        ("iifname \"eth7\" accept\n  meta l4proto udp th dport { 53, 3999-4010 } accept", "every host", true, true),
    ] {
        host_accepts(rule);
        let chain = words.to_owned();
        until(&format!("netd port tells of {rule:?}"), || contains(reachable_by(lab, "web"), &chain));
        assert_eq!((asked(OUTSIDE4), asked("198.51.100.2")), (near, far), "{rule}");
    }
    let table = lab.netd("port web").ok().stdout;
    assert!(table.contains("every host"), "{table}");
    let json = lab.netd("port web --json").ok().json();
    assert_eq!((&json[0]["publish"], &json[0]["reach"][0]["who"]), (&"strict".into(), &"anyone".into()), "{json}");
}
