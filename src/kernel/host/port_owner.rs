//! Finds the owner of a port: the process behind a socket in /proc/net (proc_net(5)), found through its descriptors.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::host::step::HostPort;
use crate::model::ids::ContainerId;
use crate::model::publication::Protocol;

/// `TCP_TIME_WAIT` (net/tcp_states.h): such a socket belongs to no process.
const TIME_WAIT: &str = "06";

/// A shorter id could occur in an unrelated command line.
const ID_MIN: usize = 12;

/// The process whose socket prevents binding the port: "sshd (pid 812)", or "another process" if the process of the
/// socket is not visible. `None` if there is no such socket.
pub fn find(port: HostPort) -> Option<String> {
    let Some(pid) = process_of(socket_of(port)?) else { return Some("another process".into()) };
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", name.trim_end()))
}

/// Whether the process that has the port was started for the container: its command line contains the container's id,
/// as that of Podman's `conmon` does, which holds the ports of its container.
pub fn is_for_container(port: HostPort, container: &ContainerId) -> bool {
    let pid = socket_of(port).and_then(process_of).filter(|_| container.as_str().len() >= ID_MIN);
    let command = pid.and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok()).unwrap_or_default();
    command.split(|byte| *byte == 0).any(|argument| argument == container.as_str().as_bytes())
}

fn socket_of(port: HostPort) -> Option<u64> {
    let tables = match port.protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let texts = tables.iter().filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok());
    let mut lines = texts.map(|text| text.lines().skip(1).find_map(|line| in_the_way(line, port)));
    lines.find_map(|inode| inode)
}

/// The inode of the socket in this line, if it conflicts with the port.
fn in_the_way(line: &str, port: HostPort) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
    let inode = fields.nth(5)?.parse().ok()?;
    let (address, number) = local.split_once(':')?;
    let address = address_from_hex(address)?;
    let same_port = u16::from_str_radix(number, 16).ok()? == port.port;
    // A socket on [::] covers IPv4 too unless it is IPv6-only, which this table does not show.
    let every = address.is_unspecified() && (address.is_ipv6() || port.address.is_ipv4());
    let meets =
        every || address == port.address || (port.address.is_unspecified() && same_family(address, port.address));
    let ended = port.protocol == Protocol::Tcp && state == TIME_WAIT;
    (same_port && meets && !ended).then_some(inode)
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

fn process_of(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
        descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|link| link.as_os_str() == wanted.as_str())
    })
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
