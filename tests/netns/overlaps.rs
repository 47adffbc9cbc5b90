//! Routes and addresses of the host that come after a network, and lead to its addresses elsewhere.

use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is, lacks};
use serde_json::Value;

use crate::lab::{Lab, run, trial, until, until_within};

/// netd looks at the host every 10 s.
const A_LOOK: Duration = Duration::from_secs(15);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("overlap: a route of a VPN that comes later is reported with network and interface", route),
        trial("overlap: so is an address, and what is there at a start; other routes are not", address),
    ]
}

fn problems(lab: &Lab) -> Vec<String> {
    let status = lab.netd("status --json").ok().json();
    let problems = status["problems"].as_array().into_iter().flatten();
    problems.map(|problem: &Value| problem.as_str().unwrap_or_default().to_owned()).collect()
}

fn route(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.77.1.0/24").ok();
    lab.netd("network create net2 --subnet 10.79.0.0/24").ok();
    lab.connected("net1", "web", "");
    assert_eq!(problems(lab), [""; 0]);
    run("ip -n host link add tun0 type veth peer name tun1").ok();
    run("ip -n host link set tun0 up").ok();
    run("ip -n host route add 10.77.0.0/16 dev tun0 metric 5").ok();
    let said = "network net1 (10.77.1.0/24) overlaps with the host's route 10.77.0.0/16 on tun0";
    until_within(A_LOOK, "it is reported", || contains(problems(lab).join("\n"), said));
    assert_eq!(problems(lab).len(), 1, "{:?}", problems(lab));
    assert!(lab.log().contains(said), "an event: {}", lab.log());
    assert_eq!(lab.diff(), "", "it is no drift");
    run("ip -n host route del 10.77.0.0/16").ok();
    until_within(A_LOOK, "it is over", || is(problems(lab), &[] as &[String]));
}

fn address(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.77.1.0/24 --ipv6 --subnet fd00:77::/64").ok();
    lab.kill_daemon();
    run("ip -n host link add tun0 type veth peer name tun1").ok();
    run("ip -n host link set tun0 up").ok();
    run("ip -n host address add fd00:77::9/128 dev tun0").ok();
    run("ip -n host route add 10.78.0.0/16 dev tun0").ok();
    lab.start_daemon();
    let said = "network net1 (fd00:77::/64) overlaps with the host's address fd00:77::9/128 on tun0";
    until("it is reported", || contains(problems(lab).join("\n"), said));
    run("ip -n host link del tun0").ok();
    until_within(A_LOOK, "it is over", || lacks(problems(lab).join("\n"), "overlaps"));
    lab.netd("network rm net1").ok();
}
