//! What becomes of it over time: restarts, flushed rulesets, containers that go and come, networks, runtimes; and the log.

use std::time::Duration;

use netd_testing::wait::{contains, is, lacks, seen};
use serde_json::{Value, json};

use super::{many_outside, set_up};
use crate::lab::cni::call;
use crate::lab::{Dig, Lab, OUTSIDE4, OUTSIDE6, run, until, until_within};
use crate::policy::flow::{self, Server, TCP, UDP, begins, open};

fn opened() -> String {
    let both =
        ["answered4", "answered6"].map(|set| run(&format!("ip netns exec host nft list set inet netd {set}")).stdout);
    both.concat()
}

pub(super) fn survives(lab: &Lab) {
    let upstream = set_up(lab);
    let _servers = [Server::start("outside", 443), Server::start("outside", 80)];
    lab.connected("net1", "web", "--egress-allow example.test:443");
    let ask = || assert_eq!(Dig::ask("web", "example.test").status, "NOERROR");
    ask();
    assert_eq!(Dig::ask("web", "example.test AAAA").status, "NOERROR");
    let right = || {
        let both = |port| [OUTSIDE4, OUTSIDE6].map(|to| begins("web", TCP, to, port));
        is([both(443), both(80)], &[[true; 2], [false; 2]])
    };
    right().expect("before");
    let mut flows = [OUTSIDE4, OUTSIDE6].map(|to| open("web", TCP, to, 443).expect("a flow"));
    lab.kill_daemon();
    right().expect("without a daemon");
    lab.start_daemon();
    right().expect("after a kill");
    lab.stop_daemon();
    lab.start_daemon();
    right().expect("after a stop");
    assert_eq!(lab.diff(), "");
    let asked = upstream.asked().len();
    run("ip netns exec host nft flush ruleset").ok();
    until("the table is back", || contains(opened(), OUTSIDE4));
    until("and decides", right);
    for spoilt in [
        "flush set inet netd answered4",
        "flush set inet netd egress4",
        "add element inet netd answered4 { 10.77.0.2 . 192.0.2.2 . tcp . 80 timeout 1h }",
        "add element inet netd answered6_any { fd00::2 . fd00::3 timeout 1h }",
        "delete table inet netd",
    ] {
        lab.exec("host", &format!("nft {spoilt}")).ok();
        until(spoilt, || is(lab.diff(), "").map_err(|_| String::new()).and_then(|_| lacks(opened(), "fd00::3")));
        until(spoilt, right);
    }
    assert_eq!(upstream.asked().len() + asked, asked, "all of it without another question");
    flows.iter_mut().for_each(|flow| assert!(flow.goes_on(), "an allowed flow goes on"));
}

/// The elements of a container went before its interface, and what it sent between them passed.
pub(super) fn until_the_end(lab: &Lab) {
    let _upstream = set_up(lab);
    let server = Server::start("outside", 90);
    lab.container("web");
    for _ in 0..20 {
        lab.netd("connect net1 web --egress deny").ok();
        let knocking: Vec<_> = (0..6).map(|_| flow::knock("web", OUTSIDE4, 90)).collect();
        knocking.iter().for_each(flow::Knocking::has_begun);
        lab.netd("disconnect net1 web").ok();
        knocking.into_iter().for_each(flow::Knocking::stop);
    }
    assert_eq!(server.heard(), 0);
}

pub(super) fn given_again(lab: &Lab) {
    let _upstream = set_up(lab);
    let _server = Server::start("outside", 443);
    lab.connected("net1", "web", "--ip 10.77.0.9 --egress-allow example.test:443");
    assert_eq!(Dig::ask("web", "example.test").status, "NOERROR");
    assert!(begins("web", TCP, OUTSIDE4, 443) && opened().contains(OUTSIDE4));
    lab.netd("disconnect net1 web").ok();
    assert!(!opened().contains("10.77.0.9"), "it goes with its container");
    lab.connected("net1", "next", "--ip 10.77.0.9 --egress-allow example.test:443");
    assert!(!begins("next", TCP, OUTSIDE4, 443));
    assert_eq!(Dig::ask("next", "example.test").status, "NOERROR");
    assert!(begins("next", TCP, OUTSIDE4, 443));
    // Gone while no daemon ran.
    lab.kill_daemon();
    run("ip netns del next").ok();
    lab.start_daemon();
    until("nothing is open", || lacks(opened(), "10.77.0.9"));
    lab.connected("net1", "last", "--ip 10.77.0.9");
    assert!(begins("last", TCP, OUTSIDE4, 443), "a container without egress");
    assert_eq!(lab.diff(), "");
}

pub(super) fn of_networks(lab: &Lab) {
    let _upstream = set_up(lab);
    many_outside();
    let _server = Server::start("outside", 443);
    lab.netd("network create held -o egress=deny -o egress-allow=example.test:443 --egress-allow 198.51.100.7").ok();
    assert_eq!(lab.network("held")["egress"], "deny");
    assert_eq!(lab.network("held")["egress_allow"], json!(["198.51.100.7", "example.test:443/tcp"]));
    lab.connected("held", "a", "");
    lab.connected("held", "b", "--egress open");
    lab.connected("held", "c", "--egress-allow 198.51.100.8:443");
    let out = |ns: &str, to: &str| begins(ns, TCP, to, 443);
    let seen = |ns: &str| ["198.51.100.7", "198.51.100.8", "198.51.100.9"].map(|to| out(ns, to));
    until("they are connected", || is([seen("a"), seen("b")], &[[true, false, false], [true; 3]]));
    assert_eq!(seen("c"), [true, true, false]);
    assert_eq!(Dig::ask("a", "example.test").status, "NOERROR");
    assert!(out("a", OUTSIDE4) && !out("c", OUTSIDE4), "what was answered to another one");
    assert_eq!(
        (Dig::ask("a", "other.test").status.as_str(), Dig::ask("b", "other.test").status.as_str()),
        ("REFUSED", "NOERROR")
    );
    // Containers reach each other: that is for policies.
    let _inner = Server::start("b", 80);
    assert!(begins("a", TCP, &lab.address("held", "b")[0].to_string(), 80));
    // A policy decides first.
    lab.netd("policy allow a outside:443").ok();
    assert!(out("a", "198.51.100.9"));
    lab.netd("policy deny a outside").ok();
    assert_eq!(seen("a"), [false; 3]);
    lab.netd("policy rm 1 2").ok();
    assert_eq!(seen("a"), [true, false, false]);
    lab.netd("backup /run/lab/backup.json").ok();
    for name in ["a", "b", "c"] {
        lab.netd(&format!("disconnect held {name}")).ok();
    }
    lab.netd("network rm held").ok();
    assert_eq!(lab.diff(), "");
    lab.netd("restore /run/lab/backup.json").ok();
    assert_eq!(lab.network("held")["egress"], "deny");
    lab.connected("held", "a", "");
    assert_eq!(seen("a"), [true, false, false]);
    assert_eq!(lab.netd("inspect c --json").code, Some(1));
}

pub(super) fn by_cni(lab: &Lab) {
    let _upstream = set_up(lab);
    let _server = Server::start("outside", 443);
    lab.container("pod");
    let args = json!({"args": {"cni": {"egress": "deny", "egressAllow": ["example.test:443"]}}});
    call("ADD", "pod").with(args).run().ok();
    assert!(!begins("pod", TCP, OUTSIDE4, 443));
    assert_eq!(Dig::ask("pod", "@10.77.0.1 example.test").status, "NOERROR");
    until("it is opened", || begins("pod", TCP, OUTSIDE4, 443).then_some(()));
    assert_eq!(Dig::ask("pod", "@10.77.0.1 other.test").status, "REFUSED");
    assert_eq!(lab.endpoint("net1", "pod")["egress_allow"], json!(["example.test:443/tcp"]));
    call("DEL", "pod").run().ok();
    assert_eq!(lab.diff(), "");
}

pub(super) fn logged(lab: &Lab) {
    let _upstream = set_up(lab);
    let _server = Server::start("outside", 443);
    lab.connected("net1", "web", "--egress-allow example.test:443");
    lab.connected("net1", "learning", "--egress open");
    for name in ["example.test", "example.test", "other.test", "secret.evil.test TXT"] {
        Dig::ask("web", name);
    }
    Dig::ask("learning", "api.test");
    assert!(!begins("web", TCP, OUTSIDE4, 80) && !begins("web", UDP, "192.0.2.77", 53));
    let lines = || {
        let shown = lab.netd("egress log web --json").ok().json();
        let one = |line: &Value| {
            let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {} {} {}", text("verdict"), text("name"), text("type"), text("to"), text("service"))
        };
        shown.as_array().into_iter().flatten().map(one).collect::<Vec<_>>()
    };
    let mut all = until_within(Duration::from_secs(15), "it is counted", || seen(lines(), |all| all.len() == 5));
    all.sort();
    let expected = [
        "allowed example.test A - -",
        "denied - - 192.0.2.77 53/udp",
        "denied example.test - 192.0.2.2 80/tcp",
        "refused other.test A - -",
        "refused secret.evil.test TXT - -",
    ];
    assert_eq!(all, expected);
    let allow = lab.netd("egress log web --as-allow").ok().stdout;
    assert_eq!(allow, "192.0.2.77:53/udp\nexample.test\nexample.test:80/tcp\nother.test\n");
    assert_eq!(lab.netd("egress log learning --as-allow").ok().stdout, "api.test\n");
    let shown = lab.netd("egress log web").ok().stdout;
    assert!(shown.contains("VERDICT") && shown.contains("refused"), "{shown}");
    lab.netd("egress log nobody").refused();
    lab.netd("disconnect net1 web").ok();
    lab.connected("net1", "web", "--egress-allow example.test:443");
    assert_eq!(lab.netd("egress log web").ok().stdout.lines().count(), 1, "a new container has a new log");
}

/// The rules that the kernel evaluates for a question to outside and to the host.
fn rules(lab: &Lab, from: &str) -> Vec<String> {
    lab.exec("host", "nft add table inet trace").ok();
    for hook in ["prerouting", "output"] {
        let chain = format!("{{ type filter hook {hook} priority -400; }}");
        run(&format!("ip netns exec host nft add chain inet trace {hook} {chain}")).ok();
        run(&format!("ip netns exec host nft add rule inet trace {hook} udp dport 80 meta nftrace set 1")).ok();
    }
    let traced = until("the kernel traces", || {
        let traced = flow::trace(|| {
            assert!(begins(from, UDP, OUTSIDE4, 80) && begins(from, UDP, "10.77.0.1", 80));
        });
        seen(traced, |rules| !rules.is_empty())
    });
    lab.exec("host", "nft delete table inet trace").ok();
    traced
}

pub(super) fn not_one_rule_more(lab: &Lab) {
    let _upstream = set_up(lab);
    lab.netd("network create net2").ok();
    let _servers = [Server::start("outside", 80), Server::start("host", 80)];
    lab.connected("net1", "free", "");
    let before = rules(lab, "free");
    lab.connected("net2", "held", "--egress-allow example.test:443");
    assert_eq!(Dig::ask("held", "example.test").status, "NOERROR");
    assert_eq!(rules(lab, "free"), before);
    assert!(!before.is_empty());
    lab.connected("net1", "near", "--egress-allow example.test:443");
    assert!(rules(lab, "free").len() > before.len(), "it costs something where it is");
    lab.netd("disconnect net1 near").ok();
    assert_eq!(rules(lab, "free"), before, "and nothing any more when it is gone");
}
