//! Interfaces in containers that have no other end on the host: where their changes are heard, and what a killed daemon
//! left of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::{Link, netns_number, trace};
use crate::kernel::netlink::socket::{Netlink, Request, failed};
use crate::kernel::netns::Visit;
use crate::kernel::{KernelError, link, netns};
use crate::model::host::observed::{Inner, ObservedKind};
use crate::model::host::step::EndpointLink;
use crate::model::names::IfName;

/// `NETNSA_NSID_NOT_ASSIGNED` (linux/net_namespace.h): the kernel chooses a number.
const ANY_NUMBER: i32 = -1;

/// Whether it is an interface of netd without another end.
pub(super) fn is_inner(link: &Link) -> bool {
    let is_stacked = match &link.kind {
        ObservedKind::Macvlan => true,
        ObservedKind::Other(kind) => kind == "ipvlan",
        _ => false,
    };
    is_stacked && link.ours()
}

/// The interfaces whose changes are reported: the number of the namespace and the index there, with the names by which
/// they are known.
#[derive(Debug, Clone, Default)]
pub struct Followed(Arc<Mutex<BTreeMap<(i32, u32), IfName>>>);

impl Followed {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(i32, u32), IfName>> {
        // No code that holds the lock leaves it half changed when it panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the link from now on, if it exists. The kernel sends the notifications of a namespace that the host's has
    /// numbered.
    pub fn add(&self, host: &mut Netlink, link: &EndpointLink) -> Result<(), KernelError> {
        let namespace = netns::open_exactly(&link.netns)?;
        let entered = namespace.try_clone().and_then(|namespace| netns::visit(namespace, Netlink::open));
        let path = link.netns.path.display();
        let mut inside = entered.and_then(Visit::end).map_err(failed("enter the namespace", path, "see `ip netns`"))?;
        let Some(found) = link::get(&mut inside, &link.ifname)? else { return Ok(()) };
        let number = numbered(host, &namespace)?;
        self.remove(link.kind.host_ifname());
        self.lock().insert((number, found.index), link.kind.host_ifname().clone());
        Ok(())
    }

    /// Follows it no longer.
    pub fn remove(&self, known_as: &IfName) {
        self.lock().retain(|_, name| name != known_as);
    }

    /// The interface with that index in the namespace with that number.
    pub fn at(&self, number: i32, index: u32) -> Option<IfName> {
        self.lock().get(&(number, index)).cloned()
    }

    /// Those in the namespace with that number.
    pub fn within(&self, number: i32) -> Vec<IfName> {
        self.lock().range((number, 0)..=(number, u32::MAX)).map(|(_, name)| name.clone()).collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<IfName> {
        self.lock().values().cloned().collect()
    }
}

/// The number that the host's namespace has for that one; assigns one if it has none.
fn numbered(host: &mut Netlink, namespace: &File) -> Result<i32, KernelError> {
    if let Some(number) = netns_number(host, namespace)? {
        return Ok(number);
    }
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(namespace.as_raw_fd().unsigned_abs()));
    message.attributes.push(NsidAttribute::Id(ANY_NUMBER));
    let look = "see `ip netns list-id`";
    let assigned = host.one(Request::plain(RouteNetlinkMessage::NewNsId(message)));
    match assigned {
        // Another program may have assigned one meanwhile.
        Err(error) if error.errno != libc::EEXIST => return Err(failed("number", "a namespace", look)(error)),
        _ => {}
    }
    let none = || std::io::Error::from_raw_os_error(libc::ENOENT);
    netns_number(host, namespace)?.ok_or_else(|| failed("number", "a namespace", look)(none()))
}

/// Those on top of an interface of the host, in all namespaces that something leads to, except the host's: others on this
/// machine may belong to the netd of another namespace. `named`: the directory of named namespaces.
pub fn all(named: &Path) -> Result<Vec<Inner>, KernelError> {
    let own = netns::own()?;
    let host = netns::open_exactly(&own)?;
    let mut found = Vec::new();
    for path in trace::paths(named) {
        // What is no network namespace, or has ended meanwhile.
        let Ok(there) = netns::identify(&path) else { continue };
        if there.id == own.id {
            continue;
        }
        let entered = netns::open_exactly(&there).and_then(|namespace| {
            let visit = netns::visit(namespace, Netlink::open).and_then(Visit::end);
            visit.map_err(failed("enter the namespace", path.display(), "see `ip netns`"))
        });
        // The listing numbers the namespaces of the interfaces below.
        let links = entered.and_then(|mut inside| Ok((link::list(&mut inside)?, netns_number(&mut inside, &host)?)));
        match links {
            Ok((links, host)) => {
                let is_ours = |link: &&Link| is_inner(link) && host.is_some() && link.peer_netns == host;
                let names = links.iter().filter(is_ours).filter_map(|link| link.name.parse().ok());
                found.extend(names.map(|ifname| Inner { netns: there.clone(), ifname }));
            }
            Err(error) => tracing::debug!(%error, "cannot look for interfaces in a namespace"),
        }
    }
    Ok(found)
}
