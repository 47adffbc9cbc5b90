//! Who has a port: the socket tables of the caller's network namespace, and the process behind an inode.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::publication::Protocol;
use crate::model::step::HostPort;

/// State of a connection that nobody owns any more (`TCP_TIME_WAIT`, net/tcp_states.h).
const TIME_WAIT: &str = "06";

/// A line of a socket table.
struct Line {
    address: IpAddr,
    port: u16,
    state: String,
    inode: u64,
}

/// "sshd (pid 812)"; `None` when no socket that could be in the way is listed. SCTP has no such table.
pub(super) fn owner(port: HostPort) -> io::Result<Option<String>> {
    let name = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => return Ok(None),
    };
    let tables = match port.address {
        // A socket on [::] may hold the IPv4 port too.
        IpAddr::V4(_) => vec![name.to_owned(), format!("{name}6")],
        IpAddr::V6(_) => vec![format!("{name}6")],
    };
    for table in tables {
        // Of the calling thread's namespace; /proc/net is that of the process's first thread.
        let path = format!("/proc/thread-self/net/{table}");
        let content = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            content => content?,
        };
        let lines = content.lines().skip(1).filter_map(line);
        let in_the_way = lines
            .filter(|line| line.port == port.port && line.state != TIME_WAIT && conflict(line.address, port.address));
        if let Some(line) = in_the_way.max_by_key(|line| line.inode != 0) {
            let unseen = || "a process that netd cannot see".to_owned();
            return Ok(Some(process(line.inode).unwrap_or_else(unseen)));
        }
    }
    Ok(None)
}

/// Whether a socket at `there` is in the way of one at `here`, of which an IPv6 one takes no IPv4 (`IPV6_V6ONLY`).
fn conflict(there: IpAddr, here: IpAddr) -> bool {
    match (there.to_canonical(), here) {
        (IpAddr::V4(there), IpAddr::V4(here)) => there == here || there.is_unspecified() || here.is_unspecified(),
        (IpAddr::V6(there), IpAddr::V6(here)) => there == here || there.is_unspecified() || here.is_unspecified(),
        (IpAddr::V6(there), IpAddr::V4(_)) => there.is_unspecified(),
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …` (proc(5)).
fn line(line: &str) -> Option<Line> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    // Words of 32 bits, each as a number of this machine.
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let address = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        _ => return None,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Line { address, port, state: (*fields.get(3)?).to_owned(), inode: fields.get(9)?.parse().ok()? })
}

/// The first process that has the socket open.
fn process(inode: u64) -> Option<String> {
    let socket = format!("socket:[{inode}]");
    let numbers = std::fs::read_dir("/proc").ok()?.flatten();
    for process in numbers.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)) {
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let has = |path: std::path::PathBuf| std::fs::read_link(path).is_ok_and(|to| to.as_os_str() == socket.as_str());
        if descriptors.flatten().any(|descriptor| has(descriptor.path())) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {})", name.trim(), process.file_name().display()));
        }
    }
    None
}
