//! Isolation: between networks, of internal networks, and without inter-container communication.

use libtest_mimic::Trial;

use crate::lab::look::default_routes;
use crate::lab::{Dig, HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, ask, echo, ip_json, run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("isolation: two networks cannot reach each other, a container on both reaches both", two_networks),
        trial("isolation: a network without a publication reaches the outside, masqueraded", way_out),
        trial("isolation: --no-masquerade keeps the source address", no_masquerade),
        trial("isolation: --internal has no access from or to outside, but names and peers", internal),
        trial("isolation: --internal refuses a publication", internal_publication),
        trial("isolation: --no-icc applies at layer 2 and through the gateway, the host stays reachable", no_icc),
    ]
}

const BOTH: [Proto; 2] = [Proto::Tcp, Proto::Udp];

fn two_networks(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2 --ipv6").ok();
    lab.connected("net1", "one", "");
    lab.connected("net2", "two", "");
    lab.connected("net1", "both", "");
    lab.netd("connect net2 both").ok();
    let _servers = [Server::start("one", "one", 80), Server::start("two", "two", 80)];
    for proto in BOTH {
        for two in lab.address("net2", "two") {
            echo::expect_no_answer("one", proto, (two, 80));
            assert_eq!(ask("both", proto, (two, 80)).who, "two");
        }
        for one in lab.address("net1", "one") {
            echo::expect_no_answer("two", proto, (one, 80));
            assert_eq!(ask("both", proto, (one, 80)).who, "one");
        }
    }
}

fn way_out(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "");
    let _server = Server::start("outside", "outside", 8080);
    for proto in BOTH {
        for (to, from) in [(OUTSIDE4, HOST4), (OUTSIDE6, HOST6)] {
            let reply = ask("web", proto, (to, 8080));
            assert_eq!(reply.saw.to_string(), from, "{proto:?}");
        }
    }
}

fn no_masquerade(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --no-masquerade --ipv6").ok();
    lab.connected("net1", "web", "");
    let _server = Server::start("outside", "outside", 8080);
    for (own, to) in lab.address("net1", "web").into_iter().zip([OUTSIDE4, OUTSIDE6]) {
        let via = if own.is_ipv4() { HOST4 } else { HOST6 };
        run(&format!("ip -n outside route add {own} via {via}")).ok();
        assert_eq!(ask("web", Proto::Tcp, (to, 8080)).saw, own);
    }
}

fn internal(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create hidden --internal --ipv6").ok();
    lab.netd("network create open --ipv6").ok();
    lab.connected("hidden", "web", "");
    lab.connected("hidden", "client", "");
    lab.connected("open", "other", "");
    let _servers = [
        Server::start("web", "web", 80),
        Server::start("outside", "outside", 8080),
        Server::start("other", "other", 80),
    ];
    assert!(default_routes("client", 4).is_empty() && default_routes("client", 6).is_empty());
    let shown: Vec<String> = lab.address("hidden", "web").iter().map(ToString::to_string).collect();
    Dig::expect("client", "web", &[&shown[0]]);
    Dig::expect("client", "web AAAA", &[&shown[1]]);
    Dig::expect("client", "+tcp web", &[&shown[0]]);
    for subnet in lab.network("hidden")["subnets"].as_array().unwrap() {
        let gateway = subnet["gateway"].as_str().unwrap();
        run(&format!("ip -n client route add default via {gateway}")).ok();
    }
    for proto in BOTH {
        for address in lab.address("hidden", "web") {
            assert_eq!(ask("client", proto, (address, 80)).who, "web");
            assert_eq!(ask("host", proto, (address, 80)).who, "web");
            let via = if address.is_ipv4() { HOST4 } else { HOST6 };
            run(&format!("ip -n outside route replace {address} via {via}")).ok();
            echo::expect_no_answer("outside", proto, (address, 80));
            echo::expect_no_answer("other", proto, (address, 80));
        }
        for address in lab.address("open", "other") {
            echo::expect_no_answer("client", proto, (address, 80));
        }
        for outside in [OUTSIDE4, OUTSIDE6] {
            echo::expect_no_answer("client", proto, (outside, 8080));
        }
    }
}

fn internal_publication(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create hidden --internal").ok();
    lab.container("web");
    let before = lab.everything();
    let line = lab.netd("connect hidden web -p 4000:80").refused();
    assert!(line.contains("hidden") && line.contains("internal"), "{line}");
    lab.unchanged_since(&before);
}

fn no_icc(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --no-icc --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80");
    lab.connected("net1", "peer", "");
    let _server = Server::start("web", "web", 80);
    let gateways = lab.network("net1")["subnets"].clone();
    for address in lab.address("net1", "web") {
        for proto in BOTH {
            echo::expect_no_answer("peer", proto, (address, 80));
            assert_eq!(ask("host", proto, (address, 80)).who, "web");
        }
        // Bypasses the isolation of the bridge port through the gateway.
        let gateway = gateways.as_array().unwrap().iter().map(|subnet| subnet["gateway"].as_str().unwrap());
        let gateway = gateway.into_iter().find(|ip| ip.contains(':') == address.is_ipv6()).unwrap();
        let length = if address.is_ipv4() { 32 } else { 128 };
        run(&format!("ip -n peer route add {address}/{length} via {gateway}")).ok();
        echo::expect_no_answer("peer", Proto::Tcp, (address, 80));
        echo::expect_no_answer("peer", Proto::Udp, (address, 80));
    }
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(Dig::ask("peer", "web").answers.len(), 1, "names do not depend on it");
    assert!(!ip_json("host", "link show type bridge").is_empty());
}
