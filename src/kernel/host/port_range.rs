//! Who has ports of a range: one look at the sockets of each family and protocol instead of a try for each port.

use std::collections::BTreeSet;
use std::io;

use super::port_owner::{self, Tables};
use crate::kernel::KernelError;
use crate::kernel::netlink::socket::failed;
use crate::kernel::netlink::sockets::{self, Bound};
use crate::model::address::Family;
use crate::model::host::step::{HostPort, HostPorts};
use crate::model::publication::Protocol;

/// The ports of the ranges on which a process receives what arrives for nobody else, each with the inode number of its
/// socket. Clients' sockets do not count, because they receive from their peers only, and neither do netd's own.
pub(super) fn users(ranges: &[HostPorts]) -> Result<Vec<(HostPort, u64)>, KernelError> {
    let mut users = Vec::new();
    let needed: BTreeSet<(Protocol, Family)> = ranges.iter().flat_map(needs).collect();
    for (protocol, family) in needed {
        let of_protocol = ranges.iter().filter(|range| range.protocol == protocol);
        match sockets::bound(family, protocol) {
            Ok(found) => {
                for range in of_protocol {
                    users.extend(found.iter().filter(|socket| meets(socket, range)).map(|socket| user(socket, range)));
                }
            }
            // The kernel was built without the module, or lacks the protocol.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::EINVAL) => {
                let mut tables = Tables::default();
                users.extend(of_protocol.flat_map(|range| tables.sockets_of(range)));
            }
            Err(error) => return Err(failed("list sockets of", protocol.to_string(), "see `ss -lntu`")(error)),
        }
    }
    if !users.is_empty() {
        // The name service answers at gateways without connection tracking, whatever is published there.
        let own: BTreeSet<u64> = port_owner::sockets_of(std::process::id()).collect();
        users.retain(|(_, inode)| !own.contains(inode));
    }
    users.sort_unstable();
    users.dedup();
    Ok(users)
}

/// Whether the port is one of the range.
pub(super) fn contains(range: &HostPorts, port: &HostPort) -> bool {
    (range.address, range.protocol) == (port.address, port.protocol) && range.ports.contains(port.port)
}

/// Sockets at `::` may have IPv4 too.
fn needs(range: &HostPorts) -> impl Iterator<Item = (Protocol, Family)> {
    let families: &[Family] = if range.address.is_ipv4() { &[Family::V4, Family::V6] } else { &[Family::V6] };
    families.iter().map(|family| (range.protocol, *family))
}

fn meets(socket: &Bound, range: &HostPorts) -> bool {
    let same_family = socket.address.is_ipv4() == range.address.is_ipv4();
    let every = socket.address.is_unspecified();
    let both = every && socket.address.is_ipv6() && !socket.v6only;
    let here = socket.address == range.address || (same_family && (every || range.address.is_unspecified())) || both;
    range.ports.contains(socket.port) && here
}

fn user(socket: &Bound, range: &HostPorts) -> (HostPort, u64) {
    let HostPorts { address, protocol, .. } = *range;
    (HostPort { address, protocol, port: socket.port }, socket.inode)
}
