//! Services beside real firewalls with their default configuration: virtual addresses and published ports lead to every
//! member, from outside, from the same network and from another one.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is, lacks, seen};

use crate::firewalls::Firewalld;
use crate::lab::echo::{answers, expect_no_answer};
use crate::lab::resolved::start_bus;
use crate::lab::{Dig, HOST4, Lab, Proto, Server, until};
use crate::world::{on_host, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("firewalls: services beside ufw", &["/usr/sbin/ufw", "iptables"], ufw),
        trial("firewalls: services beside firewalld", &["/usr/sbin/firewalld", "dbus-daemon"], firewalld),
    ]
}

const MEMBERS: [&str; 2] = ["w1", "w2"];

/// `front` with two members on net1, where `same` is too; `other` is on net2.
fn set_up(lab: &Lab) -> [Server; 2] {
    for network in ["net1", "net2"] {
        lab.netd(&format!("network create {network}")).ok();
    }
    for (network, container) in [("net1", "w1"), ("net1", "w2"), ("net1", "same"), ("net2", "other")] {
        lab.connected(network, container, "");
    }
    let create = "service create front --network net1 --mode vip --member w1 --member w2 -p 4000:80 -p 4000:80/udp";
    lab.netd(create).ok();
    MEMBERS.map(|member| Server::start(member, member, 80))
}

#[track_caller]
fn all_works(lab: &Lab) {
    let shown = lab.netd("service inspect front --json").ok().json();
    let vip = shown[0]["networks"][0]["addresses"][0].as_str().expect("an address").to_owned();
    let members = BTreeSet::from(MEMBERS.map(str::to_owned));
    for proto in [Proto::Tcp, Proto::Udp] {
        for (ns, to, port) in [
            ("outside", HOST4, 4000),
            ("other", HOST4, 4000),
            ("same", HOST4, 4000),
            ("host", HOST4, 4000),
            ("host", "127.0.0.1", 4000),
            ("host", "::1", 4000),
            ("same", vip.as_str(), 80),
            ("w1", vip.as_str(), 80),
            ("host", vip.as_str(), 80),
        ] {
            let answering = || {
                // Without the first answer the others are not worth the time.
                let first = answers(ns, proto, (to, port)).map(|reply| reply.who);
                let more = first.is_some().then(|| (0..30).filter_map(|_| answers(ns, proto, (to, port))));
                first.into_iter().chain(more.into_iter().flatten().map(|reply| reply.who)).collect::<BTreeSet<_>>()
            };
            until(&format!("each member answers {ns} at {to} over {proto:?}"), || is(answering(), &members));
        }
        for ns in ["other", "outside"] {
            expect_no_answer(ns, proto, (vip.as_str(), 80));
        }
        expect_no_answer("outside", proto, (HOST4, 80));
    }
    until("the name is answered", || is(Dig::ask("same", "front").answers, &[vip.as_str()]));
    assert_eq!(lab.netd("status --json").ok().json()["problems"], serde_json::json!([]));
    assert_eq!(lab.diff(), "");
}

fn ufw(lab: &Lab) {
    lab.start_daemon();
    let _servers = set_up(lab);
    all_works(lab);
    on_host("ufw --force enable").ok();
    let holds = || {
        until("netd has adapted", || {
            seen(lab.netd("status --json").ok().json(), |status| !status["firewall"].as_array().unwrap().is_empty())
        });
        all_works(lab);
    };
    holds();
    on_host("ufw reload").ok();
    holds();
    lab.kill_daemon();
    lab.start_daemon();
    holds();
    on_host("ufw disable").ok();
    until("nothing of netd is left", || lacks(on_host("iptables-save").ok().stdout, "NETD"));
    all_works(lab);
}

fn firewalld(lab: &Lab) {
    let _bus = start_bus();
    let first = Firewalld::start();
    lab.start_daemon();
    let _servers = set_up(lab);
    let holds = || {
        until("netd has adapted", || contains(lab.netd("status --json").ok().stdout, "filter_FORWARD"));
        all_works(lab);
    };
    holds();
    on_host("firewall-cmd --reload").ok();
    holds();
    drop(first);
    until("nothing needs adapting", || lacks(lab.netd("status --json").ok().stdout, "filter_FORWARD"));
    all_works(lab);
}
