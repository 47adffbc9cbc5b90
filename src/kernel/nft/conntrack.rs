//! Connection tracking: deletes entries that outlive what they were made for (ctnetlink,
//! linux/netfilter/nfnetlink_conntrack.h).
//!
//! The first packet of a flow determines its address translation, which is stored in the entry. Without the deletion,
//! UDP from a fixed port would continue to reach a container that no longer exists, or never reach a new one. Walking
//! the table costs about 15 ms even if it is empty; a deletion that the kernel filters costs 0.2 ms, so that is used if
//! the filter can express it.

use std::io;
use std::net::{IpAddr, UdpSocket};

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_DUMP, Nla, ParseableParametrized};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, ConntrackMessageType, IPTuple, ProtoTuple, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};

use crate::kernel::KernelError;
use crate::kernel::netlink::netfilter::{Netfilter, Reply};
use crate::model::address::Family;
use crate::model::host::step::{Flows, HostPort};
use crate::model::publication::Protocol;

/// `CTA_ID`, `CTA_ZONE`, `CTA_FILTER`.
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// `CTA_FILTER_ORIG_FLAGS`, `CTA_FILTER_REPLY_FLAGS`: which fields of the tuples are compared.
const ORIG_FLAGS: u16 = 1;
const REPLY_FLAGS: u16 = 2;
/// `CTA_FILTER_F_CTA_IP_SRC`, `_IP_DST`, `_PROTO_NUM`, `_PROTO_DST_PORT` (net/netfilter/nf_internals.h).
const IP_SRC: u32 = 1 << 0;
const IP_DST: u32 = 1 << 1;
const PROTO_NUM: u32 = 1 << 3;
const PROTO_DST_PORT: u32 = 1 << 5;
/// The maximum number of filtered deletions; more cost more than reading the whole table once.
const MANY: usize = 32;

/// Deletes the entries that the flows describe, in the network namespace of the calling thread. Entries of other ports,
/// addresses or protocols stay. A host port over TCP describes none, because its connections end by themselves.
pub fn forget(flows: &[Flows]) -> Result<(), KernelError> {
    let failed = |source| KernelError::Io {
        attempted: "delete entries of",
        on: "connection tracking".to_owned(),
        source,
        look: "see `conntrack -L`",
    };
    let flows: Vec<&Flows> = flows.iter().filter(|flows| !is_tcp(flows)).collect();
    if flows.is_empty() {
        return Ok(());
    }
    let mut netfilter = Netfilter::open().map_err(failed)?;
    forget_all(&mut netfilter, &flows).map_err(failed)
}

fn is_tcp(flows: &Flows) -> bool {
    matches!(flows, Flows::To(HostPort { protocol: Protocol::Tcp, .. }))
}

fn forget_all(netfilter: &mut Netfilter, flows: &[&Flows]) -> io::Result<()> {
    let filtered = if flows.len() <= MANY {
        flows.iter().try_for_each(|flow| forget_filtered(netfilter, flow))
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    };
    match filtered {
        // Too many flows, or an older kernel that takes a filter for an incomplete entry.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            sweep(netfilter, Family::V4, &[], flows).and_then(|()| sweep(netfilter, Family::V6, &[], flows))
        }
        done => done,
    }
}

fn forget_filtered(netfilter: &mut Netfilter, flow: &Flows) -> io::Result<()> {
    match flow {
        Flows::Of(address) => {
            let source = || vec![Tuple::Ip(vec![IPTuple::SourceAddress(*address)])];
            let original = [ConntrackAttribute::CtaTupleOrig(source()), filter(IP_SRC, 0)];
            let reply = [ConntrackAttribute::CtaTupleReply(source()), filter(0, IP_SRC)];
            delete(netfilter, Family::of(*address), &original)?;
            delete(netfilter, Family::of(*address), &reply)
        }
        Flows::To(port) => {
            let mut tuple = vec![Tuple::Proto(vec![
                ProtoTuple::Protocol(port.protocol.number().into()),
                ProtoTuple::DestinationPort(port.port),
            ])];
            if port.address.is_unspecified() {
                // This concerns every local address, and no filter can express "local".
                let filter = filter(PROTO_NUM | PROTO_DST_PORT, 0);
                let filters = [ConntrackAttribute::CtaTupleOrig(tuple), filter];
                return sweep(netfilter, Family::of(port.address), &filters, &[flow]);
            }
            tuple.insert(0, Tuple::Ip(vec![IPTuple::DestinationAddress(port.address)]));
            let filter = filter(IP_DST | PROTO_NUM | PROTO_DST_PORT, 0);
            delete(netfilter, Family::of(port.address), &[ConntrackAttribute::CtaTupleOrig(tuple), filter])
        }
    }
}

fn filter(orig: u32, reply: u32) -> ConntrackAttribute {
    let flags = [
        DefaultNla::new(ORIG_FLAGS, orig.to_ne_bytes().into()),
        DefaultNla::new(REPLY_FLAGS, reply.to_ne_bytes().into()),
    ];
    let mut value = vec![0; flags.as_slice().buffer_len()];
    flags.as_slice().emit(&mut value);
    ConntrackAttribute::Other(DefaultNla::new(FILTER | NLA_F_NESTED, value))
}

/// Deletes one entry, or those that a filter matches; finding none is no error.
///
/// Each request must name at least a part of an entry: one without any would delete the whole table.
fn delete(netfilter: &mut Netfilter, family: Family, what: &[ConntrackAttribute]) -> io::Result<()> {
    match netfilter.ask(&message(family, ConntrackMessageType::Delete, what), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done.map(drop),
    }
}

/// A message of that type with these attributes. Version 1 of the header makes the family count. The crate would lose
/// the nested flag of attributes that it does not know, and without the flag the kernel accepts no filter.
pub(super) fn message(
    family: Family,
    kind: ConntrackMessageType,
    attributes: &[ConntrackAttribute],
) -> NetfilterMessage {
    let family = match family {
        Family::V4 => NetfilterProtoFamily::IPv4,
        Family::V6 => NetfilterProtoFamily::IPv6,
    };
    let raw = |attribute: &ConntrackAttribute| {
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        let nested = if attribute.is_nested() { NLA_F_NESTED } else { 0 };
        DefaultNla::new(attribute.kind() | nested, value)
    };
    let inner = NetfilterMessageInner::Other {
        subsys: NetfilterSubsystem::Conntrack,
        message_type: kind.into(),
        attributes: attributes.iter().map(raw).collect(),
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 1, 0), inner)
}

/// Reads the wanted entries (an older kernel returns all) and deletes those that belong to the flows.
fn sweep(
    netfilter: &mut Netfilter,
    family: Family,
    filters: &[ConntrackAttribute],
    flows: &[&Flows],
) -> io::Result<()> {
    let entries = netfilter.ask(&message(family, ConntrackMessageType::Get, filters), NLM_F_DUMP)?;
    for name in entries.iter().filter_map(|entry| name_of(entry, flows)) {
        delete(netfilter, family, &name)?;
    }
    Ok(())
}

/// What identifies a dumped entry in a deletion, if it belongs to one of the flows.
pub(super) fn name_of(entry: &Reply, flows: &[&Flows]) -> Option<Vec<ConntrackAttribute>> {
    let attributes = ConntrackMessage::parse_with_param(entry.attributes.as_slice(), entry.kind);
    let Ok(ConntrackMessage::New(mut attributes)) = attributes else { return None };
    // Without the original tuple nothing would name the entry, and the kernel would delete all of them.
    let is_named = attributes
        .iter()
        .any(|attribute| matches!(attribute, ConntrackAttribute::CtaTupleOrig(tuple) if !tuple.is_empty()));
    if !is_named || !flows.iter().any(|flow| belongs(flow, &attributes)) {
        return None;
    }
    attributes.retain(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(_) => true,
        ConntrackAttribute::Other(other) => matches!(other.kind(), ID | ZONE),
        _ => false,
    });
    Some(attributes)
}

/// Whether an entry belongs to a flow, as defined by [`Flows`].
fn belongs(flow: &Flows, entry: &[ConntrackAttribute]) -> bool {
    let (mut original, mut reply): (&[Tuple], &[Tuple]) = (&[], &[]);
    for attribute in entry {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = tuple,
            ConntrackAttribute::CtaTupleReply(tuple) => reply = tuple,
            _ => {}
        }
    }
    match flow {
        Flows::Of(address) => [original, reply].into_iter().any(|tuple| source(tuple) == Some(*address)),
        Flows::To(port) => {
            let protocol =
                protocols(original).any(|field| *field == ProtoTuple::Protocol(port.protocol.number().into()));
            let number = protocols(original).any(|field| *field == ProtoTuple::DestinationPort(port.port));
            let any = port.address.is_unspecified();
            let here =
                |to: IpAddr| to == port.address || (any && Family::of(to) == Family::of(port.address) && is_local(to));
            protocol && number && destination(original).is_some_and(here)
        }
    }
}

fn protocols(tuple: &[Tuple]) -> impl Iterator<Item = &ProtoTuple> {
    tuple.iter().flat_map(|part| match part {
        Tuple::Proto(fields) => fields.as_slice(),
        _ => &[],
    })
}

fn addresses(tuple: &[Tuple]) -> impl Iterator<Item = &IPTuple> {
    tuple.iter().flat_map(|part| match part {
        Tuple::Ip(fields) => fields.as_slice(),
        _ => &[],
    })
}

fn source(tuple: &[Tuple]) -> Option<IpAddr> {
    addresses(tuple).find_map(|field| if let IPTuple::SourceAddress(address) = field { Some(*address) } else { None })
}

fn destination(tuple: &[Tuple]) -> Option<IpAddr> {
    let field = |field: &IPTuple| if let IPTuple::DestinationAddress(address) = field { Some(*address) } else { None };
    addresses(tuple).find_map(field)
}

/// Whether it is an address of this host: only local addresses can be bound.
fn is_local(address: IpAddr) -> bool {
    !address.is_multicast() && UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use netd_testing::harness::{VERSION, report_not_run};

    use super::*;
    use crate::kernel::testing::throwaway::{in_netns, run};

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
            create("tcp", "10.77.0.2", "198.51.100.1", 443, "198.51.100.1");
            assert_eq!(entries().len(), 7);
            test();
        });
    }

    fn to(address: &str, protocol: Protocol, port: u16) -> Flows {
        Flows::To(HostPort { address: address.parse().unwrap(), protocol, port })
    }

    /// Deletes the entries, once as on this kernel and once as on an older one, and returns what was deleted.
    fn forgotten(flows: &[Flows]) -> Vec<String> {
        let gone = std::sync::Mutex::new(Vec::new());
        for filtered in [true, false] {
            with_entries(|| {
                let before = entries();
                if filtered {
                    forget(flows).unwrap();
                } else {
                    let mut netfilter = Netfilter::open().unwrap();
                    let all: Vec<&Flows> = flows.iter().filter(|flows| !is_tcp(flows)).collect();
                    sweep(&mut netfilter, Family::V4, &[], &all).unwrap();
                    sweep(&mut netfilter, Family::V6, &[], &all).unwrap();
                }
                let after = entries();
                gone.lock()
                    .unwrap()
                    .push(before.into_iter().filter(|entry| !after.contains(entry)).collect::<Vec<_>>());
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
        assert_eq!(forgotten(&[to("192.0.2.1", Protocol::Sctp, 53)]), Vec::<String>::new());
        assert_eq!(forgotten(&[to("0.0.0.0", Protocol::Tcp, 53)]), Vec::<String>::new());
        assert_eq!(forgotten(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_container_forgets_what_came_from_it_and_what_went_to_it() {
        assert_eq!(
            forgotten(&[Flows::Of("10.77.0.2".parse().unwrap())]),
            ["tcp 10.77.0.2>198.51.100.1:443", "udp 192.0.2.9>192.0.2.1:53", "udp 192.0.2.9>192.0.2.1:54",]
        );
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
            forget_filtered(&mut netfilter, &to("0.0.0.0", Protocol::Udp, 53)).unwrap();
            println!("a container and a port: {filtered:?}; a port on every address: {:?}", began.elapsed() - filtered);
        });
    }
}
