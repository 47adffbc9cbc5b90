//! Finds the owner of a port: the process behind a socket in /proc/net (proc_net(5)), found through its descriptors.
//!
//! The search through the descriptors of all processes takes long on a large host. Therefore a taken port is reported
//! with its socket ([`PortOwner::Socket`]), and whoever shows the error searches, once for all of its ports ([`find`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::host::step::{HostPort, HostPorts};
use crate::model::ids::ContainerId;
use crate::model::publication::Protocol;

/// The inode number of sockets that no process has: TCP connections that end.
const NONE: u64 = 0;
/// `TCP_CLOSE`, `TCP_LISTEN`: a UDP socket without a peer, a TCP socket that listens.
const CLOSE: &str = "07";
const LISTEN: &str = "0A";

/// A shorter id could occur in an unrelated command line.
const ID_MIN: usize = 12;

/// The process that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortOwner {
    /// "sshd (pid 812)", or that it is not known.
    Process(String),
    /// Not searched for yet: the process with the socket of this inode number.
    Socket(u64),
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(process) => f.write_str(process),
            Self::Socket(_) => f.write_str("another process"),
        }
    }
}

/// Searches for the processes of all sockets among the owners, in one walk through /proc; without such, it does nothing.
/// A socket without a visible process belongs to "another process".
pub fn find(owners: &mut [&mut PortOwner]) {
    let socket = |owner: &PortOwner| if let PortOwner::Socket(inode) = owner { Some(*inode) } else { None };
    let wanted: BTreeSet<u64> = owners.iter().filter_map(|owner| socket(owner)).collect();
    if wanted.is_empty() {
        return;
    }
    let found = processes(&wanted);
    for owner in owners {
        let Some(inode) = socket(owner) else { continue };
        let named = found.get(&inode).map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{} (pid {pid})", name.trim_end())
        });
        **owner = PortOwner::Process(named.unwrap_or_else(|| "another process".to_owned()));
    }
}

/// The process of each socket, one if several share it.
fn processes(wanted: &BTreeSet<u64>) -> BTreeMap<u64, u32> {
    let mut found = BTreeMap::new();
    for pid in pids() {
        for inode in sockets_of(pid).filter(|inode| wanted.contains(inode)) {
            found.entry(inode).or_insert(pid);
        }
        if found.len() == wanted.len() {
            break;
        }
    }
    found
}

/// The sockets of the processes that were started for the container: their command line contains the container's id,
/// as that of Podman's `conmon` does, which holds the ports of its container. Only their descriptors are read.
pub(super) fn sockets_for(container: &ContainerId) -> BTreeSet<u64> {
    let is_for = |pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|argument| argument == container.as_str().as_bytes())
    };
    let is_long = container.as_str().len() >= ID_MIN;
    pids().filter(|_| is_long).filter(is_for).flat_map(sockets_of).collect()
}

/// The sockets of the process that started the plugin, and of the processes that it started: Podman binds the ports itself
/// before it starts the plugin, and hands them to its `conmon`; nerdctl starts a process that has them.
pub(super) fn sockets_of_runtime(plugin: u32) -> BTreeSet<u64> {
    let Some(runtime) = parent(plugin).filter(|pid| *pid > 1) else { return BTreeSet::new() };
    let threads = fs::read_dir(format!("/proc/{runtime}/task")).into_iter().flatten().filter_map(Result::ok);
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    children.into_iter().chain([runtime]).flat_map(sockets_of).collect()
}

/// The process that started that one, as long as both run.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything (proc_pid_stat(5)).
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn pids() -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The inode numbers of the process's sockets; none if it is not visible.
pub(super) fn sockets_of(pid: u32) -> impl Iterator<Item = u64> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
}

/// The kernel's tables of sockets in the calling thread's network namespace. Each is read when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<&'static str, String>);

impl Tables {
    /// The inode numbers of the processes' sockets that prevent binding the port.
    pub(super) fn sockets_at(&mut self, port: HostPort) -> Vec<u64> {
        let Some(range) = port.alone() else { return Vec::new() };
        let found = self.lines(port.protocol).filter_map(|line| in_the_way(line, &range));
        found.map(|found| found.inode).filter(|inode| *inode != NONE).collect()
    }

    /// The ports of the range that are received at, with the inode numbers of the sockets.
    pub(super) fn sockets_of(&mut self, range: &HostPorts) -> Vec<(HostPort, u64)> {
        let HostPorts { address, protocol, .. } = *range;
        let receives = if protocol == Protocol::Tcp { LISTEN } else { CLOSE };
        let found = self.lines(protocol).filter_map(|line| in_the_way(line, range));
        let found = found.filter(|found| found.state == receives);
        found.map(|found| (HostPort { address, protocol, port: found.port }, found.inode)).collect()
    }

    fn lines(&mut self, protocol: Protocol) -> impl Iterator<Item = &str> {
        let tables: &[&'static str] = match protocol {
            Protocol::Tcp => &["tcp", "tcp6"],
            Protocol::Udp => &["udp", "udp6"],
            Protocol::Sctp => &[],
        };
        let read = |table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        for table in tables {
            self.0.entry(table).or_insert_with(|| read(table));
        }
        tables.iter().filter_map(|table| self.0.get(table)).flat_map(|text| text.lines().skip(1))
    }
}

/// A socket in the way of a port.
struct InTheWay<'a> {
    port: u16,
    inode: u64,
    state: &'a str,
}

/// The socket in this line, if it conflicts with one of the ports.
fn in_the_way<'a>(line: &'a str, range: &HostPorts) -> Option<InTheWay<'a>> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
    let inode = fields.nth(5)?.parse().ok()?;
    let (address, number) = local.split_once(':')?;
    let address = address_from_hex(address)?;
    let port = u16::from_str_radix(number, 16).ok()?;
    // A socket on [::] covers IPv4 too unless it is IPv6-only, which this table does not show.
    let every = address.is_unspecified() && (address.is_ipv6() || range.address.is_ipv4());
    let meets =
        every || address == range.address || (range.address.is_unspecified() && same_family(address, range.address));
    (range.ports.contains(port) && meets).then_some(InTheWay { port, inode, state })
}

fn same_family(one: IpAddr, two: IpAddr) -> bool {
    one.is_ipv4() == two.is_ipv4()
}

/// 8 or 32 hex digits: words of 32 bits in the machine's byte order.
fn address_from_hex(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0u8; 16];
            for (place, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(place * 8)?);
            }
            let v6 = Ipv6Addr::from(bytes);
            Some(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        if cfg!(target_endian = "little") {
            assert_eq!(address_from_hex("0100007F"), Some("127.0.0.1".parse().unwrap()));
            assert_eq!(address_from_hex("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
            assert_eq!(address_from_hex("0000000000000000FFFF00000100007F"), Some("127.0.0.1".parse().unwrap()));
        }
        assert_eq!(address_from_hex("01"), None);
    }
}
