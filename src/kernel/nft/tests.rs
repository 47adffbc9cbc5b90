//! The firewall on the real kernel, observed through `nft`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use netd_testing::harness::report_not_run;
use netd_testing::wait::{contains, until};

use super::Nft;
use crate::kernel::KernelEvent;
use crate::kernel::testing::throwaway::{attempt, in_netns, run};
use crate::logic::{firewall, samples};
use crate::model::host::element::{Element, NameServer, Published, PublishedRange, Table, Verdict};
use crate::model::host::observed::Structure;
use crate::model::publication::{PortRange, Protocol};

fn publish(host_ip: Option<&str>, protocol: Protocol, port: u16, to: &str, to_port: u16) -> Element {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    Element::Publish(Published { host_ip, protocol, port, to: to.parse().unwrap(), to_port })
}

fn range(host_ip: Option<&str>, first: u16, last: u16, to: &str) -> Element {
    let ports = PortRange::new(first, last).unwrap();
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    Element::PublishRange(PublishedRange { host_ip, protocol: Protocol::Tcp, ports, to: to.parse().unwrap() })
}

/// An element of every set, and more with adjacent subnets and the last of all addresses.
pub(super) fn every_kind() -> Vec<Element> {
    let name = |text: &str| text.parse().unwrap();
    let mut elements = vec![
        Element::Bridge(name("nd-a")),
        Element::Bridge(name("fifteen-letters")),
        Element::Direct(name("veth0")),
        Element::Leaving(name("nd-b"), Verdict::FromInternal),
        Element::Entering(name("nd-b"), Verdict::ToInternal),
        Element::Isolated(name("nd-b")),
        Element::ToHost(name("nd-a"), Verdict::Closed),
        Element::FromHost(name("nd-a"), Verdict::OfHost),
        Element::Within(name("nd-a"), name("nd-a")),
        Element::PortsClosed(name("nd-b")),
        Element::Guarded(name("fifteen-letters")),
        Element::Mac(name("fifteen-letters"), "02:6e:0a:4d:00:02".parse().unwrap()),
        Element::Allowed(name("nd-a"), name("nd-a")),
        Element::Allowed(name("nd-a"), name("fifteen-letters")),
        publish(None, Protocol::Tcp, 4000, "10.77.0.2", 80),
        publish(None, Protocol::Udp, 4000, "10.77.0.2", 80),
        publish(None, Protocol::Sctp, 65535, "fd00::2", 1),
        publish(Some("127.0.0.1"), Protocol::Tcp, 4000, "10.77.0.3", 80),
        publish(Some("2001:db8::1"), Protocol::Udp, 53, "fd00::2", 53),
        range(None, 5000, 5010, "10.77.0.2"),
        range(None, 5020, 5020, "10.77.0.2"),
        range(Some("2001:db8::1"), 5000, 65535, "fd00::2"),
        range(Some("192.0.2.1"), 5000, 5010, "10.77.0.2"),
    ];
    for gateway in ["10.77.0.1", "fd00::1"] {
        elements.push(Element::Source(name("fifteen-letters"), gateway.parse().unwrap(), Verdict::PolicyShut));
        let server = NameServer { gateway: gateway.parse().unwrap(), port: 61053 };
        elements.extend([Element::AskAt(server), Element::AnswerFrom(server)]);
    }
    let subnets = ["10.77.0.0/24", "10.77.1.0/24", "10.77.4.0/22", "255.255.255.0/24", "10.99.0.7/32"];
    for subnet in subnets.into_iter().chain(["fd00::/64", "fd00:0:0:1::/64", "fd00:5::/48"]) {
        let subnet = subnet.parse().unwrap();
        elements.extend([Element::Masquerade(subnet), Element::Hairpin(subnet)]);
    }
    elements.extend(firewall::sets::elements(samples::entries()).0);
    // nft lists intervals of several fields in the order of insertion.
    elements.sort();
    elements
}

pub(super) fn set(elements: &[Element]) -> BTreeSet<Element> {
    elements.iter().cloned().collect()
}

fn listing() -> String {
    run("nft -s list ruleset")
}

fn replace(nft: &mut Nft, elements: &[Element]) {
    Table::ALL.into_iter().for_each(|table| nft.replace_table(table, elements).unwrap());
}

/// The structure of the tables, of the first that is not intact if there is one, and the elements. The table of services
/// does not count while it is missing.
pub(super) fn observe(nft: &mut Nft) -> (Structure, BTreeSet<Element>) {
    let firewall = nft.observe().unwrap();
    let services = Some(firewall.services).filter(|services| *services != Structure::Missing);
    let mut all = [Some(firewall.inet), Some(firewall.bridge), services].into_iter().flatten();
    (all.find(|structure| *structure != Structure::Intact).unwrap_or(Structure::Intact), firewall.elements)
}

#[test]
fn elements_by_netlink_are_those_by_nft() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        assert_eq!(observe(&mut nft), (Structure::Missing, BTreeSet::new()));
        replace(&mut nft, &every_kind());
        let by_nft = listing();
        assert_eq!(observe(&mut nft), (Structure::Intact, set(&every_kind())));
        replace(&mut nft, &[]);
        let empty = listing();
        nft.change(&[], &every_kind()).unwrap();
        assert_eq!(listing(), by_nft);
        assert_eq!(observe(&mut nft), (Structure::Intact, set(&every_kind())));
        // Adding existing elements and removing missing ones again is harmless.
        nft.change(&[], &every_kind()).unwrap();
        assert_eq!(listing(), by_nft);
        nft.change(&every_kind(), &[]).unwrap();
        assert_eq!(listing(), empty);
        nft.change(&every_kind(), &[]).unwrap();
        assert_eq!(observe(&mut nft), (Structure::Intact, BTreeSet::new()));
    });
}

#[test]
fn elements_that_nft_loaded_are_removed_by_netlink_one_by_one() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        replace(&mut nft, &[]);
        let empty = listing();
        replace(&mut nft, &every_kind());
        let mut left = set(&every_kind());
        for element in every_kind() {
            nft.change(std::slice::from_ref(&element), &[]).unwrap();
            left.remove(&element);
            assert_eq!(observe(&mut nft), (Structure::Intact, left.clone()), "after {element:?}");
        }
        assert_eq!(listing(), empty);
    });
}

#[test]
fn a_kernel_without_destroy_is_served_too() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        nft.forget_destroy();
        replace(&mut nft, &every_kind());
        let gone = publish(None, Protocol::Tcp, 9, "10.77.0.2", 9);
        let mut remove = every_kind();
        remove.insert(0, gone);
        nft.change(&remove[..6], &[]).unwrap();
        nft.change(&remove, &[]).unwrap();
        assert_eq!(observe(&mut nft), (Structure::Intact, BTreeSet::new()));
    });
}

#[test]
fn a_port_moves_in_one_transaction_and_is_never_taken_silently() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        let here = publish(None, Protocol::Tcp, 4000, "10.77.0.2", 80);
        let there = publish(None, Protocol::Tcp, 4000, "10.77.0.3", 80);
        replace(&mut nft, std::slice::from_ref(&here));
        let bridge = Element::Bridge("nd-a".parse().unwrap());
        let error = nft.change(&[], &[bridge, there.clone()]).unwrap_err().to_string();
        assert!(error.contains("publish4 of table inet netd") && error.contains("see `nft list"), "{error}");
        assert_eq!(observe(&mut nft).1, set(std::slice::from_ref(&here)));
        nft.change(&[here], std::slice::from_ref(&there)).unwrap();
        assert_eq!(observe(&mut nft).1, set(&[there]));
    });
}

#[test]
fn a_change_without_a_table_fails_unless_it_only_removes() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        nft.change(&every_kind(), &[]).unwrap();
        let error = nft.change(&[], &every_kind()).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    });
}

/// The transaction is undone as a whole, and must not count as done.
#[test]
fn a_removal_fails_if_only_one_of_its_tables_is_gone() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        replace(&mut nft, &every_kind());
        run("nft delete table bridge netd");
        let error = nft.change(&every_kind(), &[]).unwrap_err().to_string();
        assert!(error.contains("of table bridge netd"), "{error}");
        let others = every_kind().into_iter().filter(|element| element.table() != Table::Bridge);
        assert_eq!(nft.observe().unwrap().elements, others.collect());
    });
}

#[test]
fn whoever_changes_the_structure_is_noticed() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        let changes = [
            "add rule inet netd forward counter",
            "insert rule inet netd guard accept",
            "flush chain inet netd forward",
            "add chain inet netd another",
            "add set inet netd another { type ifname ; }",
            "add table inet netd { flags dormant ; }",
            "add element inet netd publish4 { tcp . 4001 : 10.77.0.2 }",
            "add element inet netd masquerade4 { 10.1.0.0-10.1.0.9 }",
            "delete table inet netd",
            "insert rule bridge netd guard accept",
            "flush chain bridge netd known",
            "delete table bridge netd",
            "flush chain inet netd_services vip4",
            "insert rule inet netd_services services_in accept",
            "add element inet netd_services vip4_8 { 10.77.0.9 . 70000 : 10.77.0.2 }",
            "flush ruleset",
        ];
        for change in changes {
            replace(&mut nft, &every_kind());
            assert_eq!(observe(&mut nft), (Structure::Intact, set(&every_kind())));
            run(&format!("nft {change}"));
            assert_ne!(observe(&mut nft).0, Structure::Intact, "{change}");
        }
        // An additional element is a difference in elements, not in structure.
        replace(&mut nft, &[]);
        run("nft add element inet netd bridges { nd-x }");
        let bridge = Element::Bridge("nd-x".parse().unwrap());
        assert_eq!(observe(&mut nft), (Structure::Intact, set(&[bridge])));
        // Changes of other tables.
        run("nft add table inet other");
        run("nft add chain inet other netd");
        assert_eq!(observe(&mut nft).0, Structure::Intact);
    });
}

#[test]
fn a_rule_that_is_replaced_in_its_place_is_noticed() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        replace(&mut nft, &[]);
        let rules = run("nft -a list chain inet netd unpublished");
        let last = rules.lines().rfind(|line| line.contains("unpublished port")).unwrap();
        let handle = last.rsplit(' ').next().unwrap();
        run(&format!("nft replace rule inet netd unpublished handle {handle} accept"));
        assert_eq!(observe(&mut nft).0, Structure::Different);
    });
}

/// `nft list ruleset >/etc/nftables.conf` is how people keep their rules: one line that nft does not read back, and at the
/// next boot the host had no firewall.
#[test]
fn what_nft_lists_it_loads_again() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        replace(&mut nft, &every_kind());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), run("nft list ruleset")).unwrap();
        run("nft flush ruleset");
        run(&format!("nft -f {}", file.path().display()));
        assert!(run("nft list table bridge netd").contains("fifteen-letters"));
        // nft leaves out what it takes for implied, so netd replaces what was loaded this way.
        replace(&mut nft, &every_kind());
        assert_eq!(observe(&mut nft), (Structure::Intact, set(&every_kind())));
    });
}

#[test]
fn counting_changes_nothing() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        replace(&mut nft, &[Element::Bridge("lo".parse().unwrap())]);
        run("ip addr add 192.0.2.1/32 dev lo");
        let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
        socket.send_to(b"dropped", "127.0.0.1:9").unwrap();
        until("the packet is counted", || contains(run("nft list chain inet netd guard"), "counter packets 1 "));
        assert_eq!(observe(&mut nft).0, Structure::Intact);
    });
}

#[test]
fn a_daemon_that_starts_anew_recognises_its_table() {
    in_netns(|| {
        let began = Instant::now();
        replace(&mut Nft::new().unwrap(), &every_kind());
        let loaded = began.elapsed();
        let mut nft = Nft::new().unwrap();
        assert_eq!(observe(&mut nft), (Structure::Intact, set(&every_kind())));
        let known = began.elapsed();
        nft.observe().unwrap();
        println!("loaded: {loaded:?}, first look: {:?}, next: {:?}", known - loaded, began.elapsed() - known);
    });
}

#[test]
fn an_error_contains_what_nft_said() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        let twice = [range(None, 5000, 5010, "10.77.0.2"), range(None, 5005, 5020, "10.77.0.2")];
        let error = nft.replace_table(Table::Inet, &twice).unwrap_err().to_string();
        assert!(error.starts_with("load table inet netd: nft said: "), "{error}");
        assert!(!attempt("nft list table inet netd").1);
    });
}

/// Waits for the notification.
fn arrives(events: &Receiver<KernelEvent>, awaited: &KernelEvent) -> bool {
    match events.recv_timeout(Duration::from_secs(5)) {
        Ok(event) => event == *awaited,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
    }
}

#[test]
fn foreign_changes_are_told_and_of_other_tables_once_for_many() {
    in_netns(|| {
        let (tell, events) = channel();
        let mut nft = Nft::new().unwrap();
        nft.monitor(Arc::new(move |event| _ = tell.send(event))).unwrap();
        replace(&mut nft, &every_kind());
        nft.change(&every_kind(), &every_kind()[..3]).unwrap();
        for _ in 0..10 {
            run("nft add table inet other");
            run("nft delete table inet other");
        }
        replace(&mut nft, &[]);
        assert!(arrives(&events, &KernelEvent::FirewallChanged), "nothing of ours");
        assert!(events.try_recv().is_err(), "more than one");
        replace(&mut nft, &every_kind());
        for foreign in [
            "add element inet netd bridges { nd-x }",
            "delete element inet netd bridges { nd-x }",
            "flush chain inet netd forward",
            "delete table inet netd",
            "delete element bridge netd guarded { fifteen-letters }",
            "flush chain bridge netd known",
            "delete table bridge netd",
            "delete element inet netd_services vips4 { 198.51.100.1 }",
            "flush chain inet netd_services vip6",
            "delete table inet netd_services",
        ] {
            run(&format!("nft {foreign}"));
            assert!(arrives(&events, &KernelEvent::Changed), "{foreign}");
            assert!(events.try_recv().is_err(), "{foreign}: more than one");
        }
        replace(&mut nft, &[]);
        run("nft flush ruleset");
        assert!(arrives(&events, &KernelEvent::Changed));
        assert!(events.try_recv().is_err());
    });
}

#[test]
fn ten_thousand_ports_are_one_transaction() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        let ports: Vec<Element> =
            (20000..=30000).map(|port| publish(None, Protocol::Tcp, port, "10.77.0.2", port + 1)).collect();
        replace(&mut nft, &[]);
        let began = Instant::now();
        nft.change(&[], &ports).unwrap();
        let added = began.elapsed();
        assert_eq!(observe(&mut nft), (Structure::Intact, set(&ports)));
        let began = Instant::now();
        nft.change(&ports, &[]).unwrap();
        println!("10,001 ports: added in {added:?}, removed in {:?}", began.elapsed());
        assert_eq!(observe(&mut nft), (Structure::Intact, BTreeSet::new()));
        match nft.replace_table(Table::Inet, &ports) {
            Err(error) if error.to_string().contains("Message too long") => {
                return report_not_run("nft may not send 10,001 ports at once without privileges over the host");
            }
            done => {
                done.unwrap();
                assert_eq!(observe(&mut nft).1, set(&ports));
            }
        }
        let began = Instant::now();
        for _ in 0..100 {
            nft.change(&[], &ports[..1]).unwrap();
            nft.change(&ports[..1], &[]).unwrap();
        }
        println!("one port added and removed beside 10,000: {:?}", began.elapsed() / 100);
    });
}
