//! Golden files of the firewall tables: what `nft -j -f` is given, and what `nft list table inet netd` says after it; the
//! same of `table inet netd_services`, which is text.
//!
//! `UPDATE_GOLDEN=1 cargo test --test rules_golden` rewrites them (the `.nft` files as root, with nft installed). The
//! listing differs between releases of nft, so it is compared only with the release that wrote it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use netd::logic::firewall;
use netd::logic::slots::{port_elements, vip_elements};
use netd::model::address::{Family, Subnet};
use netd::model::host::element::{Element, NameServer, Published, PublishedRange, Table, Verdict};
use netd::model::publication::{PortRange, Protocol};
use netd_testing::harness;

type Elements = BTreeSet<Element>;

/// Rewrites the golden files.
const UPDATE: &str = "UPDATE_GOLDEN=1 cargo test --test rules_golden";

fn main() -> ExitCode {
    let trials = vec![
        harness::trial("the_rendered_table_is_the_golden_one", the_rendered_table_is_the_golden_one),
        harness::trial("elements_survive_the_way_to_entries_and_back", elements_survive_the_way_to_entries_and_back),
        harness::trial("nft_lists_the_golden_table", nft_lists_the_golden_table),
        harness::trial("nft_lists_the_golden_table_of_services", nft_lists_the_golden_table_of_services),
    ];
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}

/// What a network is to the firewall.
fn network(bridge: &str, subnets: &[&str], internal: bool) -> Elements {
    let name = || bridge.parse().unwrap();
    let mut elements = Elements::from([Element::Bridge(name()), Element::Allowed(name(), name())]);
    if internal {
        elements.extend([
            Element::Leaving(name(), Verdict::FromInternal),
            Element::Entering(name(), Verdict::ToInternal),
            Element::ToHost(name(), Verdict::Closed),
            Element::PortsClosed(name()),
        ]);
        return elements;
    }
    for subnet in subnets {
        let subnet: Subnet = subnet.parse().unwrap();
        elements.extend([Element::Masquerade(subnet), Element::Hairpin(subnet)]);
    }
    elements
}

/// What leads to the name service at a gateway.
fn name_server(gateway: &str) -> [Element; 2] {
    let server = NameServer { gateway: gateway.parse().unwrap(), port: 61053 };
    [Element::AskAt(server), Element::AnswerFrom(server)]
}

fn publish(host_ip: Option<&str>, protocol: Protocol, port: u16, to: &str, to_port: u16) -> Element {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    Element::Publish(Published { host_ip, protocol, port, to: to.parse().unwrap(), to_port })
}

fn range(host_ip: Option<&str>, protocol: Protocol, first: u16, last: u16, to: &str) -> Element {
    let ports = PortRange::new(first, last).unwrap();
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    Element::PublishRange(PublishedRange { host_ip, protocol, ports, to: to.parse().unwrap() })
}

fn two_networks() -> Elements {
    let mut elements = network("nd-net1", &["10.77.0.0/24"], false);
    elements.extend(network("nd-net2", &["10.77.1.0/24"], true));
    elements.insert(Element::ToHost("nd-net1".parse().unwrap(), Verdict::Closed));
    elements
}

fn ten_publications() -> Elements {
    use Protocol::{Sctp, Tcp, Udp};
    let mut elements = network("nd-net1", &["10.77.0.0/24"], false);
    elements.extend([
        publish(None, Tcp, 4000, "10.77.0.2", 80),
        publish(None, Udp, 4000, "10.77.0.2", 80),
        publish(None, Sctp, 4000, "10.77.0.2", 80),
        publish(Some("127.0.0.1"), Tcp, 5432, "10.77.0.3", 5432),
        publish(Some("192.0.2.7"), Tcp, 443, "10.77.0.4", 8443),
        publish(Some("192.0.2.7"), Udp, 53, "10.77.0.4", 5353),
        publish(None, Tcp, 65535, "10.77.0.5", 1),
        publish(None, Tcp, 1, "10.77.0.5", 65535),
        range(None, Udp, 10000, 20000, "10.77.0.6"),
        range(Some("192.0.2.7"), Tcp, 6000, 6010, "10.77.0.6"),
    ]);
    elements
}

fn dual_stack() -> Elements {
    use Protocol::{Tcp, Udp};
    let mut elements = network("nd-net1", &["10.77.0.0/24", "fd00:89::/64"], false);
    elements.extend(["10.77.0.1", "fd00:89::1"].into_iter().flat_map(name_server));
    elements.extend([
        publish(None, Tcp, 4000, "10.77.0.2", 80),
        publish(None, Tcp, 4000, "fd00:89::2", 80),
        publish(Some("2001:db8::7"), Udp, 53, "fd00:89::2", 53),
        range(None, Udp, 6000, 6010, "10.77.0.2"),
        range(None, Udp, 6000, 6010, "fd00:89::2"),
        range(Some("2001:db8::7"), Tcp, 6000, 6010, "fd00:89::2"),
        Element::Strict(Family::V4, Tcp, PortRange::single(4000).unwrap()),
        Element::Strict(Family::V6, Tcp, PortRange::single(4000).unwrap()),
        Element::StrictAt("2001:db8::7".parse().unwrap(), Tcp, PortRange::new(6000, 6010).unwrap()),
    ]);
    elements
}

/// A service with members, one with affinity, one without members, and a published port.
fn services() -> Elements {
    let bridge = "nd-net1".parse().unwrap();
    let both = ["10.77.0.2", "10.77.0.3", "fd00:89::2", "fd00:89::3"].map(|ip| ip.parse().unwrap());
    let mut elements = Elements::new();
    for (vip, affinity, members) in
        [("10.77.0.200", false, &both[..]), ("10.77.0.201", true, &both[..1]), ("fd00:89::201", false, &[])]
    {
        elements.extend(vip_elements(vip.parse().unwrap(), &bridge, affinity, members));
    }
    elements.extend(port_elements((Protocol::Tcp, 8080), 80, false, &both, Family::V6));
    elements.retain(|element| element.table() == Table::Services);
    elements
}

fn tables() -> [(&'static str, Elements); 5] {
    [
        ("empty", Elements::new()),
        (
            "one-network",
            network("nd-net1", &["10.77.0.0/24"], false).into_iter().chain(name_server("10.77.0.1")).collect(),
        ),
        ("two-networks-one-internal", two_networks()),
        ("ten-publications", ten_publications()),
        ("dual-stack", dual_stack()),
    ]
}

/// Compares with the file, or writes it. Says the first lines that differ.
fn check(file: &str, now: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, now).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    if golden == now {
        return;
    }
    let mut diff = String::new();
    let (old, new): (Vec<_>, Vec<_>) = (golden.lines().collect(), now.lines().collect());
    let first = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let last = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let last = last.min(old.len().min(new.len()) - first);
    for line in &old[first..old.len() - last] {
        diff += &format!("-{line}\n");
    }
    for line in &new[first..new.len() - last] {
        diff += &format!("+{line}\n");
    }
    panic!("{} differs from line {} on:\n{diff}\nif that is meant: {UPDATE}", path.display(), first + 1);
}

fn the_rendered_table_is_the_golden_one() -> Result<(), String> {
    for (name, elements) in tables() {
        let json = serde_json::to_string_pretty(&firewall::table(&elements, true)).unwrap();
        check(&format!("{name}.json"), &(json + "\n"));
    }
    Ok(())
}

fn elements_survive_the_way_to_entries_and_back() -> Result<(), String> {
    for (name, elements) in tables() {
        let entries: Vec<_> = elements.iter().flat_map(firewall::sets::entries).collect();
        assert_eq!(firewall::sets::elements(entries), (elements, 0), "{name}");
    }
    Ok(())
}

/// Loads with the first command and lists with the second in a network namespace that lives as long as its thread. `Err`:
/// why it cannot.
fn listing(load: &'static [&'static str], table: &'static str, input: String) -> Result<String, String> {
    let inside = move || {
        let flags = nix::sched::CloneFlags::CLONE_NEWNET;
        nix::sched::unshare(flags).map_err(|error| format!("no network namespace of its own: {error}"))?;
        let mut nft = Command::new("nft")
            .args(load)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("nft does not start: {error}"))?;
        nft.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "nft refused the table");
        let version = Command::new("nft").arg("--version").output().unwrap().stdout;
        let list = Command::new("nft").args(["list", "table", "inet", table]).output().unwrap().stdout;
        let version = String::from_utf8(version).unwrap();
        let version = version.split_whitespace().nth(1).unwrap_or("unknown");
        Ok(format!("# nft {version}\n{}", String::from_utf8(list).unwrap()))
    };
    std::thread::spawn(inside).join().unwrap()
}

fn nft_lists_the_golden_table() -> Result<(), String> {
    for (name, elements) in tables() {
        let json = firewall::table(&elements, true).to_string();
        check_listing(&format!("{name}.nft"), &listing(&["-j", "-f", "-"], "netd", json)?)?;
    }
    Ok(())
}

fn nft_lists_the_golden_table_of_services() -> Result<(), String> {
    let elements = services();
    let entries: Vec<_> = elements.iter().flat_map(firewall::sets::entries).collect();
    assert_eq!(firewall::sets::elements(entries), (elements.clone(), 0));
    let text = firewall::services::text(&elements);
    check("services.txt", &text);
    check_listing("services.nft", &listing(&["-f", "-"], "netd_services", text)?)
}

/// Compares with the file if this version of nft wrote it.
fn check_listing(file: &str, now: &str) -> Result<(), String> {
    let golden = std::fs::read_to_string(format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR")));
    let wrote = golden.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    let here = now.lines().next().unwrap_or_default();
    if std::env::var_os("UPDATE_GOLDEN").is_none() && !wrote.is_empty() && wrote != here {
        let why = format!("{file} was written by {wrote:?}, this is {here:?}; to rewrite it: {UPDATE}");
        return Err(harness::VERSION.to_owned() + &why);
    }
    check(file, now);
    Ok(())
}
