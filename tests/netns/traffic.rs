//! Requests and streams do not notice that the daemon is killed, restarted or replaced.

use std::fs;

use libtest_mimic::Trial;
use netd_testing::wait::seen;

use crate::lab::daemon::netd;
use crate::lab::look::{ruleset, same};
use crate::lab::probe::{ECHO, HTTP, Probe, Servers, TALK};
use crate::lab::{HOST4, Lab, run, trial, until};

/// How many exchanges of each client there must be before, between and after the restarts.
const EXCHANGES: u64 = 20;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("traffic: kill -9 and a start disturb no request, no stream and no rule", killed),
        trial("traffic: SIGTERM and a start disturb no request, no stream and no rule", stopped),
        trial("traffic: a binary upgrade disturbs no request, no stream and no rule", upgraded),
        trial("traffic: an upgrade with another firewall table disturbs no request and no stream", other_table),
    ]
}

/// Clients outside and in a container, of one container.
struct Traffic {
    probes: [(&'static str, Probe); 5],
    _servers: Servers,
}

impl Traffic {
    fn start(lab: &Lab) -> Self {
        lab.netd("network create net1 --ipv6").ok();
        lab.connected("net1", "web", &format!("-p 4000:{HTTP} -p 4007:{ECHO} -p 4019:{TALK}"));
        lab.connected("net1", "client", "");
        let servers = Servers::start("web");
        let address = lab.address("net1", "web")[0];
        let probes = [
            ("HTTP from outside to the published port", Probe::http("outside", (HOST4, 4000))),
            ("HTTP from a container to the published port", Probe::http("client", (HOST4, 4000))),
            ("a stream from outside", Probe::stream("outside", (HOST4, 4007))),
            ("a stream to outside", Probe::listener("outside", (HOST4, 4019))),
            ("a stream between containers", Probe::stream("client", (address, ECHO))),
        ];
        let traffic = Self { probes, _servers: servers };
        traffic.goes_on();
        traffic
    }

    /// Waits for more exchanges of each client.
    fn goes_on(&self) {
        for (what, probe) in &self.probes {
            let enough = probe.done() + EXCHANGES;
            until(what, || seen(probe.done(), |done| *done >= enough));
        }
    }

    fn finish(self) {
        self.goes_on();
        self.probes.into_iter().for_each(|(what, probe)| probe.finish(what));
    }
}

/// netd's tables with the handles of their chains, rules, sets and maps; without counters.
fn handles() -> String {
    let list = |family| run(&format!("ip netns exec host nft -s -a list table {family} netd")).ok().stdout;
    ["inet", "bridge"].map(list).concat()
}

/// `restart` gets a function that waits until the clients have gone on.
fn undisturbed(lab: &Lab, restart: impl Fn(&Lab, &dyn Fn())) {
    let traffic = Traffic::start(lab);
    let before = handles();
    for _ in 0..3 {
        restart(lab, &|| traffic.goes_on());
        traffic.goes_on();
        same(&before, &handles());
    }
    traffic.finish();
}

fn killed(lab: &Lab) {
    lab.start_daemon();
    undisturbed(lab, |lab, while_dead| {
        lab.kill_daemon();
        while_dead();
        lab.start_daemon();
    });
}

fn stopped(lab: &Lab) {
    lab.start_daemon();
    undisturbed(lab, |lab, while_dead| {
        lab.stop_daemon();
        while_dead();
        lab.start_daemon();
    });
}

/// Copies the program. Another process does it: a program that this one has open for writing, as its children may inherit
/// it from another test's thread, cannot be started.
fn copy(to: &str) {
    run(&format!("cp {} {to}", netd())).ok();
}

fn upgraded(lab: &Lab) {
    let (program, next) = ("/run/lab/netd", "/run/lab/netd.new");
    copy(program);
    lab.start_program(program);
    undisturbed(lab, |lab, while_replaced| {
        // As package managers do it: the running daemon keeps its file, which has no name any more.
        copy(next);
        fs::rename(next, program).unwrap();
        while_replaced();
        lab.stop_daemon();
        lab.start_program(program);
    });
}

fn other_table(lab: &Lab) {
    lab.start_daemon();
    let traffic = Traffic::start(lab);
    let before = ruleset();
    lab.stop_daemon();
    // As another version may have left it.
    run("ip netns exec host nft add chain inet netd of_another_version").ok();
    lab.start_daemon();
    assert_eq!(ruleset(), before);
    traffic.finish();
}
