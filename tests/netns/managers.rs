//! Programs that configure every link they find: with the files in `dist` they leave netd's alone.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::is;

use crate::lab::{Lab, resolved, run, skippable, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![skippable("managers: systemd-networkd leaves netd's links alone", networkd)]
}

const NETWORKD: &str = "/lib/systemd/systemd-networkd";

/// The interfaces of the host with this address.
fn with_address(address: &str) -> Vec<String> {
    let shown = run(&format!("ip -n host -j address show to {address}")).ok().json();
    let links = shown.as_array().expect("a list").iter().filter(|link| link["ifname"].is_string());
    links.map(|link| link["ifname"].as_str().expect("a name").to_owned()).collect()
}

fn networkd(lab: &Lab) -> Completion {
    if !Path::new(NETWORKD).exists() {
        return Completion::ignored_with(format!("no {NETWORKD}"));
    }
    for folder in ["/run/systemd/network", "/run/systemd/netif/links", "/run/systemd/netif/leases"] {
        fs::create_dir_all(folder).expect("a folder");
    }
    // As on a host that was set up for one interface by somebody who did not think of others.
    let every = "[Match]\nName=*\n[Network]\nAddress=203.0.113.77/32\nLinkLocalAddressing=no\n";
    fs::write("/run/systemd/network/80-every.network", every).expect("a file");
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/networkd/10-netd.network");
    fs::copy(ours, "/run/systemd/network/10-netd.network").expect("a copy");
    let _bus = resolved::start_bus();
    lab.start_daemon();
    lab.netd("network create before").ok();
    lab.connected("before", "web", "-p 4000:80");
    let log = File::create("/run/lab/networkd.log").expect("a file");
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", NETWORKD]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let _networkd = resolved::start(&mut command);
    lab.netd("network create after").ok();
    lab.connected("after", "db", "");
    run("ip -n host link add last type veth peer name end").ok();
    run("ip -n host link set last up").ok();
    // It takes links in the order in which they came.
    until("the last link is configured", || is(with_address("203.0.113.77").contains(&"last".to_owned()), &true));
    let ours: Vec<String> = with_address("203.0.113.77").into_iter().filter(|name| name.starts_with("nd")).collect();
    assert_eq!(ours, Vec::<String>::new(), "it has configured netd's links");
    assert_eq!(lab.diff(), "");
    Completion::Completed
}
