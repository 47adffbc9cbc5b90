//! What netd's proxy passes on: a network without IPv6 is reached at the host's IPv6 addresses only through it, and the
//! kernel then sees connections of the host.

use libtest_mimic::Trial;

use super::flow::{Server, TCP, UDP, begins, open};
use crate::lab::{self, Lab, trial, until};
use netd_testing::wait::is;

pub(super) fn trials() -> Vec<Trial> {
    vec![trial("policy: what the proxy passes on is of who has sent it, open connections too", proxied)]
}

/// Who reaches the container's port and the service's, over TCP and UDP.
fn reaching() -> String {
    let reach = |ns: &str, host: &str| {
        [4000, 4001].into_iter().all(|port| begins(ns, TCP, host, port) && begins(ns, UDP, host, port))
    };
    let none = |ns: &str, host: &str| {
        [4000, 4001].into_iter().all(|port| !begins(ns, TCP, host, port) && !begins(ns, UDP, host, port))
    };
    let ways = [("outside", lab::HOST6), ("other", lab::HOST6), ("host", "::1"), ("host", lab::HOST6)];
    let shown = ways.into_iter().filter_map(|(ns, host)| match (reach(ns, host), none(ns, host)) {
        (true, _) => Some(ns.to_owned()),
        (false, true) => None,
        (false, false) => Some(format!("{ns} partly")),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn proxied(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create net2 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp");
    lab.connected("net2", "other", "");
    lab.netd("service create front --network net1 --mode vip --member web -p 4001:80 -p 4001:80/udp").ok();
    let _server = Server::start("web", 80);
    let everybody = "outside other host host".to_owned();
    until("everybody reaches the container", || is(reaching(), &everybody));
    let mut from_outside = open("outside", TCP, lab::HOST6, 4000).expect("it is open");
    let mut from_host = open("host", TCP, "::1", 4000).expect("it is open");
    lab.netd("policy deny outside web").ok();
    assert_eq!(reaching(), "other host host");
    assert!(from_outside.has_ended(), "an open connection ends when it is denied");
    assert!(from_host.goes_on(), "one that is not denied goes on");
    lab.netd("policy rm 1").ok();
    lab.netd("policy deny other web:80/tcp").ok();
    lab.netd("policy deny other web:80/udp").ok();
    assert_eq!(reaching(), "outside host host");
    lab.netd("policy rm 2 3").ok();
    assert_eq!(reaching(), everybody);
    assert!(from_host.goes_on(), "whatever was denied to others");
    lab.netd("policy default-deny net1").ok();
    assert_eq!(reaching(), "");
    assert!(from_host.has_ended(), "denied by default");
    assert_eq!(lab.diff(), "");
}
