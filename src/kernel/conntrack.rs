//! Connection tracking: forgetting flows of a port or an address that changed hands.
//!
//! A UDP flow follows its entry, not the map: without this, a steady client would go on talking to a container that is
//! gone (and one that talked before a port was published, to nobody).

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::KernelError;
use super::netlink::failed;
use crate::model::publication::Protocol;
use crate::model::step::{Flows, HostPort};

const LOOK: &str = "see `conntrack -L`";
/// Seconds that the kernel may take for an answer.
const PATIENCE_SECONDS: i64 = 10;

/// One direction of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Direction {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    destination_port: Option<u16>,
    protocol: Option<u8>,
}

/// Deletes every entry that one of the `flows` means, and no other.
pub fn forget(flows: &[Flows]) -> Result<(), KernelError> {
    let fail = || failed("forget", "conntrack entries", LOOK);
    let v4 = flows.iter().any(|flow| of(flow).is_ipv4());
    let v6 = flows.iter().any(|flow| of(flow).is_ipv6());
    let mut socket = open().map_err(fail())?;
    for (family, _) in [(NetfilterProtoFamily::IPv4, v4), (NetfilterProtoFamily::IPv6, v6)].into_iter().filter(|f| f.1)
    {
        for attributes in dump(&mut socket, family).map_err(fail())? {
            if flows.iter().any(|flow| means(flow, &attributes)) {
                delete(&mut socket, family, attributes).map_err(fail())?;
            }
        }
    }
    Ok(())
}

fn of(flow: &Flows) -> IpAddr {
    match flow {
        Flows::To(port) => port.address,
        Flows::Of(address) => *address,
    }
}

fn means(flow: &Flows, attributes: &[ConntrackAttribute]) -> bool {
    let original = direction(attributes, |attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(tuple) => Some(tuple),
        _ => None,
    });
    match flow {
        Flows::To(HostPort { address, protocol, port }) => {
            let here = address.is_unspecified() || original.destination == Some(*address);
            // TCP connections end by themselves, and must not be cut.
            here && *protocol != Protocol::Tcp
                && original.protocol == Some(protocol.number())
                && original.destination_port == Some(*port)
        }
        Flows::Of(address) => {
            let reply = direction(attributes, |attribute| match attribute {
                ConntrackAttribute::CtaTupleReply(tuple) => Some(tuple),
                _ => None,
            });
            original.source == Some(*address) || reply.source == Some(*address)
        }
    }
}

fn direction<'a>(
    attributes: &'a [ConntrackAttribute],
    which: impl Fn(&'a ConntrackAttribute) -> Option<&'a Vec<Tuple>>,
) -> Direction {
    let mut found = Direction::default();
    for part in attributes.iter().filter_map(which).flatten() {
        match part {
            Tuple::Ip(addresses) => addresses.iter().for_each(|address| match address {
                IPTuple::SourceAddress(ip) => found.source = Some(*ip),
                IPTuple::DestinationAddress(ip) => found.destination = Some(*ip),
                _ => {}
            }),
            Tuple::Proto(numbers) => numbers.iter().for_each(|number| match number {
                ProtoTuple::Protocol(protocol) => found.protocol = Some(u8::from(*protocol)),
                ProtoTuple::DestinationPort(port) => found.destination_port = Some(*port),
                _ => {}
            }),
            _ => {}
        }
    }
    found
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
    Ok(socket)
}

fn dump(socket: &mut Socket, family: NetfilterProtoFamily) -> io::Result<Vec<Vec<ConntrackAttribute>>> {
    let mut entries = Vec::new();
    exchange(socket, family, ConntrackMessage::Get(Vec::new()), NLM_F_DUMP, |message| {
        if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner {
            entries.push(attributes);
        }
    })?;
    Ok(entries)
}

/// An entry that has ended meanwhile is fine.
fn delete(socket: &mut Socket, family: NetfilterProtoFamily, attributes: Vec<ConntrackAttribute>) -> io::Result<()> {
    let key = attributes.into_iter().filter(|a| matches!(a, ConntrackAttribute::CtaTupleOrig(_))).collect();
    match exchange(socket, family, ConntrackMessage::Delete(key), NLM_F_ACK, |_| {}) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done,
    }
}

fn exchange(
    socket: &mut Socket,
    family: NetfilterProtoFamily,
    message: ConntrackMessage,
    flags: u16,
    mut each: impl FnMut(NetfilterMessage),
) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = Vec::with_capacity(1 << 16);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let invalid = |error: netlink_packet_core::DecodeError| io::Error::new(io::ErrorKind::InvalidData, error);
            let part = NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(invalid)?;
            let length = (part.header.length as usize).next_multiple_of(4);
            match part.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return error.code.map_or(Ok(()), |_| Err(error.to_io())),
                NetlinkPayload::InnerMessage(message) => each(message),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;

    use super::*;
    use crate::kernel::lab::{in_own_netns, ip};

    fn entries() -> String {
        let list = Command::new("conntrack").args(["-L", "-p", "udp"]).output().unwrap();
        String::from_utf8(list.stdout).unwrap()
    }

    #[test]
    fn only_the_flows_that_are_meant_are_forgotten() {
        in_own_netns(|| {
            ip("link set lo up");
            // Connection tracking works where somebody asks for it.
            let rules = "table inet t { chain c { type filter hook output priority 0; ct state new accept; }; }";
            assert!(Command::new("nft").arg(rules).status().unwrap().success());
            let client = UdpSocket::bind("127.0.0.2:0").unwrap();
            for port in [4000, 4001] {
                client.send_to(b"x", ("127.0.0.1", port)).unwrap();
                client.send_to(b"x", ("127.0.0.3", port)).unwrap();
            }
            assert_eq!(entries().lines().count(), 4, "{}", entries());
            let port =
                |address: &str| HostPort { address: address.parse().unwrap(), protocol: Protocol::Udp, port: 4000 };
            forget(&[Flows::To(port("127.0.0.3"))]).unwrap();
            let left = entries();
            assert!(left.lines().count() == 3 && left.contains("dst=127.0.0.3 sport") && left.contains("dport=4000"));
            forget(&[Flows::To(port("0.0.0.0"))]).unwrap();
            let left = entries();
            assert!(left.lines().count() == 2 && !left.contains("dport=4000"), "{left}");
            forget(&[Flows::Of("127.0.0.3".parse().unwrap())]).unwrap();
            assert_eq!(entries().lines().count(), 1, "{}", entries());
            forget(&[Flows::Of("127.0.0.2".parse().unwrap())]).unwrap();
            assert_eq!(entries().lines().count(), 0);
        });
    }
}
