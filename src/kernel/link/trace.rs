//! Finds the containers of interfaces whose records were lost: `Kernel::trace`.
//!
//! The host end names container and network in its alias, and says which interface of which namespace is its other end.
//! That namespace is searched among all that a name, a process, a mount or a descriptor leads to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Link, inspect, netns_number};
use crate::kernel::netlink::socket::Netlink;
use crate::kernel::netns::{self, Visit, find};
use crate::kernel::{KernelError, link};
use crate::model::endpoint::Netns;
use crate::model::host::observed::{ObservedKind, Traced};
use crate::model::host::step::EndpointLink;
use crate::model::names::IfName;

/// The finished pairs of netd whose container is found, in the order in which they were made. `named`: the directory of
/// named namespaces.
pub fn all(host: &mut Netlink, named: &Path) -> Result<Vec<Traced>, KernelError> {
    let is_pair = |link: &Link| link.kind == ObservedKind::Veth && link.group == link::LINK_GROUP;
    let mut pairs: Vec<Link> = link::list(host)?.into_iter().filter(is_pair).collect();
    pairs.sort_by_key(|link| link.index);
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let namespaces = namespaces(host, named)?;
    let mut found = Vec::new();
    for pair in pairs {
        let Some(path) = pair.peer_netns.and_then(|number| namespaces.get(&number)) else { continue };
        match traced(host, &pair, path) {
            Ok(traced) => found.extend(traced),
            // It may have ended meanwhile.
            Err(error) => tracing::warn!("cannot trace interface {}: {error}", pair.name),
        }
    }
    Ok(found)
}

/// The container's end of the pair with that host end, if it is in the namespace at that path.
pub fn into(host: &mut Netlink, host_ifname: &IfName, path: &Path) -> Result<Option<Traced>, KernelError> {
    match link::get(host, host_ifname)? {
        Some(pair) => traced(host, &pair, path),
        None => Ok(None),
    }
}

/// The namespaces of this machine that the host's namespace has numbered, with a path of each: of those that lead to it,
/// its name.
fn namespaces(host: &mut Netlink, named: &Path) -> Result<BTreeMap<i32, PathBuf>, KernelError> {
    let mut numbered = BTreeMap::new();
    for path in paths(named) {
        let Ok(namespace) = File::open(&path) else { continue };
        // The kernel refuses what is no network namespace.
        if let Ok(Some(number)) = netns_number(host, &namespace) {
            numbered.insert(number, path);
        }
    }
    Ok(numbered)
}

/// A path of each namespace of this machine that something leads to: of those that have one, the name.
pub(super) fn paths(named: &Path) -> impl Iterator<Item = PathBuf> {
    let mut paths = find::search();
    for path in fs::read_dir(named).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if let Ok(found) = fs::metadata(&path) {
            paths.insert(found.ino(), path);
        }
    }
    paths.into_values()
}

fn traced(host: &mut Netlink, pair: &Link, path: &Path) -> Result<Option<Traced>, KernelError> {
    let (Some((container, network)), Some(inner)) =
        (pair.alias.as_deref().and_then(EndpointLink::read_alias), pair.peer)
    else {
        return Ok(None);
    };
    let Ok(host_ifname) = pair.name.parse() else { return Ok(None) };
    let netns = netns::identify(path)?;
    let Some(ifname) = name_inside(&netns, inner)? else { return Ok(None) };
    let Some(inside) = inspect::interface(host, &netns, &ifname)? else { return Ok(None) };
    // An index and a number say little: the other end must lead back.
    let leads_back = inside.host_end.as_ref().is_some_and(|end| end.name == host_ifname);
    Ok(leads_back.then_some(Traced { container, network, netns, ifname, host_ifname, inside }))
}

/// The name of the interface with that index in the namespace.
fn name_inside(netns: &Netns, index: u32) -> Result<Option<IfName>, KernelError> {
    let namespace = netns::open_exactly(netns)?;
    let path = netns.path.display();
    let entered = netns::visit(namespace, Netlink::open).and_then(Visit::end);
    let mut inside =
        entered.map_err(crate::kernel::netlink::socket::failed("enter the namespace", path, "see `ip netns`"))?;
    Ok(link::get_by_index(&mut inside, index)?.and_then(|link| link.name.parse().ok()))
}
