//! The name service within a container: its sockets are opened in the container's namespace, at 127.0.0.11.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::resolver::Resolver;
use super::table::Leads;
use super::{resolver, sockets, table};
use crate::kernel::netlink::socket::{Netlink, failed};
use crate::kernel::netns::Visit;
use crate::kernel::{DnsSockets, KernelError, netns};
use crate::model::endpoint::Netns;
use crate::model::inside::{AT, Inside};

/// RFC 1035, 4.2.
const DNS_PORT: u16 = 53;
/// A container is its own only client, so one socket suffices.
const NO_SHARDS: usize = 0;
const LOOK: &str = "see `ip address` and `ss -lntu` in the container";

/// Keeps a table in the container's namespace for as long as netd runs.
#[derive(Debug)]
pub struct Owner {
    _table: table::Owner,
}

/// Opens the sockets and directs questions to them. In a namespace without nftables the sockets are bound to port 53
/// themselves. Beside another resolver, the table lasts as long as the returned owner: when netd ends, for whatever
/// reason, that resolver answers again.
pub fn open(inside: &Inside) -> Result<(DnsSockets, Option<Owner>), KernelError> {
    let target = inside.clone();
    let (mut sockets, owner) = enter(&inside.netns, move || {
        netns::raise_loopback().map_err(failed("set up", "lo", LOOK)).map_err(io::Error::other)?;
        let at = IpAddr::V4(AT);
        let sockets = sockets::open(at, sockets::PORT, NO_SHARDS).map_err(io::Error::other)?;
        let leads = Leads { at: AT, port: sockets.port, gateways: &ipv4(&target), passes: resolver::MARK };
        if target.beside {
            let owner = table::own(&leads)?;
            return Ok((sockets, Some(Owner { _table: owner })));
        }
        match table::write(&leads) {
            Ok(()) => Ok((sockets, None)),
            Err(error) => {
                tracing::debug!(%error, "no nftables in a container");
                let sockets = sockets::open_exactly(at, DNS_PORT, NO_SHARDS).map_err(io::Error::other)?;
                Ok((sockets, None))
            }
        }
    })?;
    sockets.address = inside.container.own_address();
    sockets.client = Some(sockets.address);
    if inside.beside {
        sockets.beside = Some(Resolver::new(netns::open_exactly(&inside.netns)?));
    }
    Ok((sockets, owner))
}

/// Directs questions to the sockets that are open in the container on this port. Gateways that are no longer listed
/// lose their redirection.
pub fn lead(inside: &Inside, port: u16) -> Result<(), KernelError> {
    let target = inside.clone();
    enter(&inside.netns, move || {
        // Beside another resolver, nothing that changes is redirected.
        if port == DNS_PORT || target.beside {
            return Ok(());
        }
        table::write(&Leads { at: AT, port, gateways: &ipv4(&target), passes: resolver::MARK })
    })
}

/// Whether questions are directed to the sockets that are open in the container on this port.
pub fn is_led(inside: &Inside, port: u16) -> Result<bool, KernelError> {
    // Nobody else can change a table that belongs to a socket of netd; on port 53 there is none.
    if port == DNS_PORT || inside.beside {
        return Ok(true);
    }
    let target = inside.clone();
    enter(&inside.netns, move || {
        table::is_written(&Leads { at: AT, port, gateways: &ipv4(&target), passes: resolver::MARK })
    })
}

/// Removes the redirection. A namespace that no longer exists is no error.
pub fn leave(netns: &Netns) -> Result<(), KernelError> {
    match enter(netns, table::remove) {
        Err(KernelError::NoNetns { .. }) => Ok(()),
        outcome => outcome,
    }
}

fn ipv4(inside: &Inside) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let both = |(own, gateway): &(IpAddr, IpAddr)| match (own, gateway) {
        (IpAddr::V4(own), IpAddr::V4(gateway)) => Some((*own, *gateway)),
        _ => None,
    };
    inside.gateways.iter().filter_map(both).collect()
}

/// Runs the job on a thread in exactly that namespace.
fn enter<T: Send + 'static>(
    netns: &Netns,
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, KernelError> {
    let namespace = netns::open_exactly(netns)?;
    let target = netns.clone();
    let visit = netns::visit(namespace, move || {
        if !netns::same_cookie(&target, &Netlink::open()?) {
            return Ok(None);
        }
        job().map(Some)
    });
    let done = visit.and_then(Visit::end).map_err(failed("serve names within", netns.path.display(), LOOK))?;
    done.ok_or_else(|| netns::another(netns))
}
