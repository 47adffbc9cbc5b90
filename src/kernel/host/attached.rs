//! Some interfaces of the host with their addresses, for who sends and receives there.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use super::facts::OUTSIDE;
use crate::kernel::KernelError;
use crate::kernel::link::{self, address, route};
use crate::kernel::netlink::socket::{Netlink, failed};
use crate::model::names::IfName;

/// An interface that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedInterface {
    /// Its name.
    pub name: IfName,
    /// Its index.
    pub index: u32,
    /// Its addresses, including link-local ones.
    pub addresses: Vec<IpNetwork>,
}

/// What was looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// Those that are up.
    pub up: Vec<AttachedInterface>,
    /// Those that do not exist.
    pub missing: BTreeSet<IfName>,
    /// The interfaces of the default routes.
    pub default: BTreeSet<IfName>,
}

/// Looks at these interfaces of the calling thread's network namespace, and at those of the default routes.
pub fn look(names: &BTreeSet<IfName>) -> Result<Looked, KernelError> {
    let mut netlink = Netlink::open().map_err(failed("open", "a netlink socket", "see `dmesg`"))?;
    let mut looked = Looked::default();
    let towards: BTreeSet<u32> =
        OUTSIDE.into_iter().filter_map(|outside| route::interface_towards(&mut netlink, outside)).collect();
    for index in towards {
        let link = link::get_by_index(&mut netlink, index)?;
        looked.default.extend(link.and_then(|link| link.name.parse().ok()));
    }
    for name in names.union(&looked.default) {
        match link::get(&mut netlink, name)? {
            None => _ = looked.missing.insert(name.clone()),
            Some(link) if link.up => {
                let addresses = address::list(&mut netlink, Some(link.index))?.into_iter().map(|at| at.address);
                let (name, addresses) = (name.clone(), addresses.collect());
                looked.up.push(AttachedInterface { name, index: link.index, addresses });
            }
            Some(_) => {}
        }
    }
    Ok(looked)
}
