//! Names that DNS uses otherwise: a container cannot take them.

use std::fs;

use libtest_mimic::Trial;
use netd_testing::wait::contains;

use crate::lab::{Dig, Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("names: the host's names and NAME.NETWORK of another container are refused", claims)]
}

/// `client` on net1 and net2, `web` on net1.
fn claims(lab: &Lab) {
    lab.start_daemon();
    for network in ["net1", "net2"] {
        lab.netd(&format!("network create {network}")).ok();
        lab.connected(network, "client", "");
    }
    lab.connected("net1", "web", "");
    ["evil", "late", "localhost"].iter().for_each(|name| lab.container(name));
    let web = lab.address("net1", "web")[0].to_string();

    let before = lab.everything();
    for (words, named) in [
        ("connect net1 localhost", "\"localhost\""),
        ("connect net2 evil --alias host.docker.internal", "\"host.docker.internal\""),
        ("connect net2 evil --alias Host.Internal", "\"host.internal\""),
        ("connect net2 evil --alias web.net1", "name of container web on network net1"),
        ("connect net2 evil --alias WEB.net1.internal", "name of container web on network net1"),
    ] {
        let line = lab.netd(words).refused();
        assert!(line.contains(named), "{words}: {line}");
    }
    lab.unchanged_since(&before);
    Dig::expect("client", "web.net1", &[&web]);

    let log = "/run/lab/events";
    let events =
        format!("nsenter --net=/run/netns/host -- {} events >{log} 2>&1 & echo $!", crate::lab::daemon::netd());
    let pid = crate::lab::command::run_words(&["sh", "-c", &events]).ok().stdout.trim().to_owned();
    until("the events are followed", || {
        // Events before the reader was there are not repeated.
        lab.netd("network create probe").ok();
        lab.netd("network rm probe").ok();
        contains(fs::read_to_string(log).unwrap_or_default(), "probe")
    });
    lab.netd("connect net2 evil --alias late.net1").ok();
    let evil = lab.address("net2", "evil")[0].to_string();
    Dig::expect("client", "late.net1", &[&evil]);
    lab.netd("connect net1 late").ok();
    Dig::expect("client", "late.net1", &[&lab.address("net1", "late")[0].to_string()]);
    until("an event says that the alias lost", || {
        contains(fs::read_to_string(log).unwrap_or_default(), "late.net1 does not resolve to container evil")
    });
    run(&format!("kill {pid}")).ok();
}
