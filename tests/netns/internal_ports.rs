//! Ports of a container on an internal network: published over another network, or refused.

use libtest_mimic::Trial;

use crate::lab::echo::{answers, expect_no_answer};
use crate::lab::{HOST4, Lab, Proto, Server, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("internal networks: a port is published over the container's other network", by_hand)]
}

fn by_hand(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create front").ok();
    lab.netd("network create back --internal").ok();
    lab.container("web");
    let refused = lab.netd("connect back web -p 8080:80").refused();
    assert!(refused.contains("cannot publish 8080:80/tcp on network back: it is internal"), "{refused}");
    lab.netd("connect front web").ok();
    lab.netd("connect back web -p 8080:80").ok();
    let _server = Server::start("web", "web", 80);
    let reached = || answers("outside", Proto::Tcp, (HOST4, 8080)).map(|reply| reply.who);
    assert_eq!(reached().as_deref(), Some("web"));
    let shown = || lab.netd("port web").ok().stdout;
    assert!(shown().contains("every host that reaches this one"), "{}", shown());
    lab.netd("disconnect front web").ok();
    expect_no_answer("outside", Proto::Tcp, (HOST4, 8080));
    assert!(shown().contains("no host: the container is on no network that other hosts can reach"), "{}", shown());
    lab.netd("connect front web").ok();
    assert_eq!(reached().as_deref(), Some("web"));
}
