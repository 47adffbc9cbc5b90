//! Addresses and routes of a container's interface: `Step::Address` and `Step::RemoveAddresses`, and the routes of
//! `Step::Attach`.

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{address, container_route, route};
use crate::kernel::netlink::socket::{Netlink, NetlinkError, Outcome, Request, failed};
use crate::kernel::netns::Visit;
use crate::kernel::sysctl::Sysctl;
use crate::kernel::{KernelError, netns};
use crate::model::host::step::EndpointLink;

const LOOK: &str = "see `ip address` and `ip route show table all` in the container";
/// The index of `lo`, the first interface of every namespace (`LOOPBACK_IFINDEX`, linux/if.h).
pub(super) const LOOPBACK: u32 = 1;
/// `ESRCH`: the route no longer exists. The others: the address or the interface no longer exists.
const GONE: [i32; 3] = [libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENODEV];

/// What is wrong with a route itself: another is in its place, its gateway is not reachable, its values are senseless, it
/// is for IPv6 and the interface has none (`EACCES`).
const UNROUTABLE: [i32; 5] = [libc::EEXIST, libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL, libc::EACCES];

/// The link's interface, as a thread in its namespace sees it.
struct ContainerLink {
    netlink: Netlink,
    sysctl: Sysctl,
    index: u32,
    link: EndpointLink,
}

/// Adds addresses, default routes and further routes to the existing interface. Those that it already has are no error;
/// on failure, what was added is removed.
pub fn add(link: &EndpointLink) -> Result<(), KernelError> {
    enter(link, |link, inside| match inside {
        Some(mut inside) => inside.add(),
        None => Err(failed("look up interface", on(link), LOOK)(std::io::Error::from_raw_os_error(libc::ENODEV))),
    })
}

/// Makes the existing interface match: `lo` and the interface up, addresses and routes; with `link_layer` its MAC address
/// and MTU too. What a failed restore has added stays: the next one continues.
pub fn restore(link: &EndpointLink, link_layer: bool) -> Result<(), KernelError> {
    enter(link, move |link, inside| match inside {
        Some(mut inside) => inside.restore(link_layer),
        None => Err(failed("look up interface", on(link), LOOK)(std::io::Error::from_raw_os_error(libc::ENODEV))),
    })
}

/// Removes the link's addresses and routes from its interface. A missing namespace or interface is no error.
pub fn remove(link: &EndpointLink) -> Result<(), KernelError> {
    match enter(link, |_, inside| inside.map_or(Ok(()), |mut inside| inside.remove())) {
        Err(KernelError::NoNetns { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// The object of an error message: "eth0 in web".
fn on(link: &EndpointLink) -> String {
    format!("{} in {}", link.ifname, link.container)
}

/// Runs the job on a thread in the link's namespace, with `None` if there is no such interface.
fn enter(
    link: &EndpointLink,
    job: impl FnOnce(&EndpointLink, Option<ContainerLink>) -> Result<(), KernelError> + Send + 'static,
) -> Result<(), KernelError> {
    let namespace = netns::open_exactly(&link.netns)?;
    let target = link.clone();
    let visit = netns::visit(namespace, move || {
        let netlink = Netlink::open()?;
        if !netns::same_cookie(&target.netns, &netlink) {
            return Ok(Err(netns::another(&target.netns)));
        }
        let index = if_nametoindex(target.ifname.as_str()).ok();
        let inside = index.map(|index| ContainerLink { netlink, sysctl: Sysctl::open(), index, link: target.clone() });
        Ok(job(&target, inside))
    });
    visit.and_then(Visit::end).map_err(failed("enter the namespace of", &link.container, LOOK))?
}

impl ContainerLink {
    fn add(&mut self) -> Result<(), KernelError> {
        let v6 = self.link.addresses.iter().any(IpNetwork::is_ipv6);
        let had_v6 = !v6 || self.speaks_ipv6()?;
        let mut undo = Vec::new();
        let done = self.try_add(v6, false, &mut undo);
        if done.is_err() {
            self.take_back(&undo, !had_v6);
        }
        done
    }

    fn restore(&mut self, link_layer: bool) -> Result<(), KernelError> {
        let v6 = self.link.addresses.iter().any(IpNetwork::is_ipv6);
        let mut interface = LinkUnspec::new_with_index(self.index).up();
        if link_layer {
            interface = interface.address(self.link.mac.bytes().to_vec()).mtu(self.link.mtu);
        }
        let set = |link: LinkMessageBuilder<LinkUnspec>| Request::plain(RouteNetlinkMessage::SetLink(link.build()));
        let requests = [set(LinkUnspec::new_with_index(LOOPBACK).up()), set(interface)];
        let refused = self.send(&requests)?.into_iter().find_map(Result::err);
        refused.map_or(Ok(()), Err).map_err(failed("set up interface", on(&self.link), LOOK))?;
        self.try_add(v6, true, &mut Vec::new())?;
        if v6 { self.restore_link_local() } else { Ok(()) }
    }

    /// The kernel makes a link-local address when the interface comes up, and not again.
    fn restore_link_local(&mut self) -> Result<(), KernelError> {
        let there = address::list(&mut self.netlink, Some(self.index))?;
        if there.iter().any(|found| address::link_local(found.address.ip())) {
            return Ok(());
        }
        let address = IpNetwork::from(self.link.mac.link_local());
        let added = self.netlink.all(&[address::add(self.index, address)]);
        added.map_err(failed("add address", format!("{address} to {}", on(&self.link)), LOOK))
    }

    fn speaks_ipv6(&self) -> Result<bool, KernelError> {
        let value = self.sysctl.get(&["ipv6", "conf", self.link.ifname.as_str(), "disable_ipv6"])?;
        Ok(value.as_deref() == Some("0"))
    }

    /// Adds the routes that the kernel makes with the addresses, if another program removed them: without them, the
    /// gateways are unreachable.
    fn connect(&mut self) -> Result<(), KernelError> {
        let there = address::list(&mut self.netlink, Some(self.index))?;
        let ours = |address: &IpNetwork| self.link.addresses.contains(address) || address::link_local(address.ip());
        let addresses = there.iter().map(|found| found.address).filter(|address| ours(address));
        let addresses = addresses.filter(route::has_subnet);
        let requests: Vec<Request> = addresses.map(|address| route::connect(self.index, address)).collect();
        let refused =
            self.send(&requests)?.into_iter().filter_map(Result::err).find(|error| error.errno != libc::EEXIST);
        refused.map_or(Ok(()), Err).map_err(failed("add the route to the subnet of", on(&self.link), LOOK))
    }

    /// `undo` collects the requests that revert what was done, in the order in which it was done. `connects`: also adds
    /// the routes of addresses that are there already.
    fn try_add(&mut self, v6: bool, connects: bool, undo: &mut Vec<Request>) -> Result<(), KernelError> {
        if v6 {
            // An interface that was attached without addresses has IPv6 disabled.
            self.sysctl.prepare_container(self.link.ifname.as_str(), true)?;
        }
        let there = address::list(&mut self.netlink, Some(self.index))?;
        let missing = |target: &&IpNetwork| !there.iter().any(|found| found.address == **target);
        let missing: Vec<IpNetwork> = self.link.addresses.iter().filter(missing).copied().collect();
        let requests: Vec<Request> = missing.iter().map(|missing| address::add(self.index, *missing)).collect();
        let outcomes = self.send(&requests)?;
        for (address, outcome) in missing.iter().zip(outcomes) {
            outcome.map_err(failed("add address", format!("{address} to {}", on(&self.link)), LOOK))?;
            undo.push(address::remove(self.index, *address));
        }
        if connects {
            self.connect()?;
        }
        let outcomes = self.send(&routes(self.index, &self.link))?;
        let taken = outcomes.iter().zip(route_removals(self.index, &self.link));
        undo.extend(taken.filter(|(outcome, _)| outcome.is_ok()).map(|(_, removal)| removal));
        judge_routes(&mut self.netlink, self.index, &self.link, outcomes)?;
        missing.iter().for_each(|address| route::settle_address(&mut self.netlink, self.index, address.ip()));
        Ok(())
    }

    fn send(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, KernelError> {
        self.netlink.send(requests).map_err(failed("set up interface", on(&self.link), LOOK))
    }

    fn take_back(&mut self, undo: &[Request], no_ipv6: bool) {
        let requests: Vec<Request> = undo.iter().rev().cloned().collect();
        let taken = self.send(&requests).and_then(|_| if no_ipv6 { self.silence_ipv6() } else { Ok(()) });
        if let Err(error) = taken {
            tracing::warn!(%error, "cannot remove the addresses of an interface whose setup failed");
        }
    }

    /// Disables IPv6, as on an interface that is attached without addresses.
    fn silence_ipv6(&self) -> Result<(), KernelError> {
        self.sysctl.prepare_container(self.link.ifname.as_str(), false)
    }

    /// Removes the routes first: IPv6 keeps routes through a gateway when the addresses are removed.
    fn remove(&mut self) -> Result<(), KernelError> {
        let mut requests = route_removals(self.index, &self.link);
        requests.extend(self.link.addresses.iter().map(|address| address::remove(self.index, *address)));
        let outcomes = self.send(&requests)?;
        let gone_is_fine = |error: &NetlinkError| !GONE.contains(&error.errno);
        let refused = outcomes.into_iter().filter_map(Result::err).find(gone_is_fine);
        refused.map_or(Ok(()), Err).map_err(failed("take the addresses off", on(&self.link), LOOK))?;
        if !self.link.addresses.iter().any(IpNetwork::is_ipv6) {
            return Ok(());
        }
        let left = address::list(&mut self.netlink, Some(self.index))?;
        let left = left.iter().any(|left| left.address.is_ipv6() && !address::link_local(left.address.ip()));
        if left { Ok(()) } else { self.silence_ipv6() }
    }
}

/// Adds the link's default routes, then its further routes.
pub(in crate::kernel) fn routes(index: u32, link: &EndpointLink) -> Vec<Request> {
    let defaults = link.default_gateways.iter().map(|gateway| route::add_default(index, *gateway, link.default_metric));
    defaults.chain(link.routes.iter().map(|route| container_route::add(index, route))).collect()
}

/// The inverse of each request of [`routes`].
fn route_removals(index: u32, link: &EndpointLink) -> Vec<Request> {
    let defaults =
        link.default_gateways.iter().map(|gateway| route::remove_default(index, *gateway, link.default_metric));
    defaults.chain(link.routes.iter().map(|route| container_route::remove(index, route))).collect()
}

/// Checks the outcomes of [`routes`]. An existing default route from elsewhere stays, and so does an identical further
/// route; a different route in its place is an error.
pub(in crate::kernel) fn judge_routes(
    inside: &mut Netlink,
    index: u32,
    link: &EndpointLink,
    outcomes: Vec<Outcome>,
) -> Result<(), KernelError> {
    let defaults = link.default_gateways.len();
    for (place, outcome) in outcomes.into_iter().enumerate() {
        let Err(error) = outcome else { continue };
        let further = place.checked_sub(defaults).and_then(|place| link.routes.get(place));
        let exists = error.errno == libc::EEXIST;
        match further {
            None if exists => {}
            None => return Err(failed("add the default route over", on(link), LOOK)(error)),
            Some(route) if exists && container_route::list(inside, index)?.contains(&route.clone().normal()) => {}
            Some(route) => {
                let on = format!("{} over {}", route.destination, on(link));
                return Err(match error.errno {
                    errno if UNROUTABLE.contains(&errno) => KernelError::NoRoute { on, source: error.into() },
                    _ => failed("add the route to", on, LOOK)(error),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
