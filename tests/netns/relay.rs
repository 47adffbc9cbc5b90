//! Relay of discovery between containers and the LAN (`-o relay=`): the lab's `outside` plays a device of the LAN.

mod avahi;
mod changes;
mod guards;
mod mdns;
mod peer;
mod ssdp;

use libtest_mimic::Trial;

use crate::lab::daemon::SOCKET;
use crate::lab::{Lab, run, space};

pub(crate) fn trials() -> Vec<Trial> {
    let all = [mdns::trials(), ssdp::trials(), avahi::trials(), guards::trials(), changes::trials()];
    all.into_iter().flatten().collect()
}

/// As [`begin`], on a host that is closed to its containers, whose bridges do not show their frames to its firewall.
fn begin_closed(lab: &Lab, options: &str) {
    // Where the kernel has no such setting, they never do.
    let _ = space::bridge_netfilter("0");
    begin(lab, &format!("{options} --host-access none"));
}

/// A daemon, and a network with these options and the container `web`.
fn begin(lab: &Lab, options: &str) {
    lab.start_daemon();
    lab.netd(&format!("network create net1 {options}")).ok();
    lab.connected("net1", "web", "");
}

/// The daemon's metrics.
fn metrics() -> String {
    run(&format!("curl -sS --unix-socket {SOCKET} http://netd/metrics")).ok().stdout
}

/// How many messages had this result.
fn counted(result: &str) -> u64 {
    let metrics = metrics();
    let lines = metrics.lines().filter(|line| line.starts_with("netd_relay_packets_total{"));
    let of_result = lines.filter(|line| line.contains(&format!("result=\"{result}\"")));
    of_result.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
