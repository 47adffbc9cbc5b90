//! Connection tracking entries in namespaces of their own.

use std::time::Instant;

use netd_testing::harness::{VERSION, report_not_run};

use super::*;
use crate::kernel::testing::throwaway::{in_netns, run};
use crate::model::host::step::HostPorts;
use crate::model::publication::{PortRange, Protocol};

/// Entries as `conntrack` lists them: "udp 10.0.0.1:1>10.0.0.2:2", sorted.
fn entries() -> Vec<String> {
    let listing = run("conntrack -L -f ipv4") + &run("conntrack -L -f ipv6");
    let mut entries: Vec<String> = listing.lines().filter(|line| line.contains("src=")).map(entry).collect();
    entries.sort();
    entries
}

fn entry(line: &str) -> String {
    let field = |name: &str| line.split(name).nth(1).unwrap().split_whitespace().next().unwrap();
    let protocol = line.split_whitespace().next().unwrap();
    format!("{protocol} {}>{}:{}", field("src="), field("dst="), field("dport="))
}

/// Creates entries as if their packets had been seen.
fn create(protocol: &str, source: &str, destination: &str, port: u16, reply: &str) {
    let state = if protocol == "tcp" { " --state ESTABLISHED" } else { "" };
    run(&format!(
        "conntrack -I -p {protocol} -s {source} -d {destination} --sport 1{port} --dport {port} -r {reply} -q {source} \
         --reply-port-src 80 --reply-port-dst 1{port} -t 100{state}"
    ));
}

/// A host that publishes ports, and entries that must not be deleted.
fn with_entries(test: impl FnOnce() + Send) {
    in_netns(|| {
        run("ip addr add 192.0.2.1/24 dev lo");
        run("ip addr add 192.0.2.2/24 dev lo");
        run("ip addr add 2001:db8::1/64 dev lo nodad");
        for (protocol, destination, port, reply) in [
            ("udp", "192.0.2.1", 53, "10.77.0.2"),
            ("udp", "192.0.2.1", 54, "10.77.0.2"),
            ("udp", "192.0.2.2", 53, "192.0.2.2"),
            ("udp", "198.51.100.1", 53, "198.51.100.1"),
            ("tcp", "192.0.2.1", 53, "10.77.0.3"),
        ] {
            create(protocol, "192.0.2.9", destination, port, reply);
        }
        create("udp", "2001:db8::9", "2001:db8::1", 53, "fd00::2");
        create("udp", "2001:db8::9", "2001:db8::1", 54, "fd00::3");
        create("tcp", "10.77.0.2", "198.51.100.1", 443, "198.51.100.1");
        assert_eq!(entries().len(), 8);
        test();
    });
}

fn to(address: &str, protocol: Protocol, port: u16) -> Flows {
    Flows::To(HostPorts { address: address.parse().unwrap(), protocol, ports: PortRange::single(port).unwrap() })
}

/// Deletes the entries, once as on this kernel and once as on an older one, and returns what was deleted.
fn forgotten(flows: &[Flows]) -> Vec<String> {
    let gone = std::sync::Mutex::new(Vec::new());
    for filtered in [true, false] {
        with_entries(|| {
            let before = entries();
            if filtered {
                Conntrack::default().forget(flows).unwrap();
            } else {
                let mut netfilter = Netfilter::open().unwrap();
                let all: Vec<&Flows> = flows.iter().collect();
                if !all.is_empty() {
                    sweep(&mut netfilter, &all).unwrap();
                }
            }
            let after = entries();
            gone.lock().unwrap().push(before.into_iter().filter(|entry| !after.contains(entry)).collect::<Vec<_>>());
        });
    }
    let mut gone = gone.into_inner().unwrap();
    assert_eq!(gone.first(), gone.last());
    gone.pop().unwrap_or_default()
}

#[test]
fn a_host_port_forgets_its_flows_to_local_addresses_only() {
    assert_eq!(
        forgotten(&[to("0.0.0.0", Protocol::Udp, 53)]),
        ["udp 192.0.2.9>192.0.2.1:53", "udp 192.0.2.9>192.0.2.2:53"]
    );
    assert_eq!(forgotten(&[to("::", Protocol::Udp, 53)]), ["udp 2001:db8::9>2001:db8::1:53"]);
    assert_eq!(forgotten(&[to("192.0.2.1", Protocol::Udp, 53)]), ["udp 192.0.2.9>192.0.2.1:53"]);
    let range = PortRange::new(50, 53).unwrap();
    let range = |address: &str| HostPorts { address: address.parse().unwrap(), protocol: Protocol::Udp, ports: range };
    assert_eq!(forgotten(&[Flows::To(range("192.0.2.1"))]), ["udp 192.0.2.9>192.0.2.1:53"]);
    assert_eq!(forgotten(&[Flows::To(range("::"))]), ["udp 2001:db8::9>2001:db8::1:53"]);
    assert_eq!(forgotten(&[to("192.0.2.1", Protocol::Sctp, 53)]), Vec::<String>::new());
    assert_eq!(forgotten(&[to("0.0.0.0", Protocol::Tcp, 53)]), ["tcp 192.0.2.9>192.0.2.1:53"]);
    assert_eq!(forgotten(&[]), Vec::<String>::new());
}

#[test]
fn a_container_forgets_what_came_from_it_and_what_went_to_it() {
    assert_eq!(
        forgotten(&[Flows::Of("10.77.0.2".parse().unwrap())]),
        ["tcp 10.77.0.2>198.51.100.1:443", "udp 192.0.2.9>192.0.2.1:53", "udp 192.0.2.9>192.0.2.1:54",]
    );
    assert_eq!(forgotten(&[Flows::Of("fd00::2".parse().unwrap())]), ["udp 2001:db8::9>2001:db8::1:53"]);
    assert_eq!(forgotten(&[to("2001:db8::1", Protocol::Udp, 54)]), ["udp 2001:db8::9>2001:db8::1:54"]);
    let both = [Flows::Of("fd00::3".parse().unwrap()), to("192.0.2.2", Protocol::Udp, 53)];
    assert_eq!(forgotten(&both), ["udp 192.0.2.9>192.0.2.2:53", "udp 2001:db8::9>2001:db8::1:54"]);
    let many: Vec<Flows> = (1..=40u8).map(|last| Flows::Of([10, 77, 0, last].into())).collect();
    assert_eq!(forgotten(&many).len(), 4);
}

/// A deletion that named no tuple would have deleted the whole table.
#[test]
fn an_entry_without_an_original_tuple_is_left_alone() {
    let address: IpAddr = [10, 77, 0, 2].into();
    let tuple = || vec![Tuple::Ip(vec![IPTuple::SourceAddress(address)])];
    let name = |attributes: &[ConntrackAttribute]| {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        let entry = Reply { kind: 0, subsystem: 1, family: 2, port: 0, attributes: bytes };
        name_of(&entry, &[&Flows::Of(address)])
    };
    let (original, reply) = (ConntrackAttribute::CtaTupleOrig(tuple()), ConntrackAttribute::CtaTupleReply(tuple()));
    assert_eq!(name(&[original.clone(), reply.clone()]), Some(vec![original]));
    assert_eq!(name(std::slice::from_ref(&reply)), None);
    assert_eq!(name(&[ConntrackAttribute::CtaTupleOrig(Vec::new()), reply]), None);
}

#[test]
fn the_kernel_takes_the_filters() {
    let release = run("uname -r");
    let mut version = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    if (version.next(), version.next()) < (Some(6), Some(12)) {
        return report_not_run(&format!("{VERSION}Linux {} may not filter deletions", release.trim_end()));
    }
    with_entries(|| {
        let mut netfilter = Netfilter::open().unwrap();
        let began = Instant::now();
        forget_filtered(&mut netfilter, &Flows::Of("10.77.0.2".parse().unwrap())).unwrap();
        forget_filtered(&mut netfilter, &to("192.0.2.1", Protocol::Udp, 53)).unwrap();
        let filtered = began.elapsed();
        sweep(&mut netfilter, &[&to("0.0.0.0", Protocol::Udp, 53), &to("::", Protocol::Udp, 53)]).unwrap();
        println!("a container and a port: {filtered:?}; a port on every address: {:?}", began.elapsed() - filtered);
    });
}
