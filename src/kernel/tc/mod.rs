//! Limits of an interface: `Step::Shape`, `Step::Unshape`, and whether they match the target.
//!
//! What the host end of a pair sends is what the container receives: a token bucket on it limits that. What the
//! container sends only arrives there, and arriving packets cannot be queued: a filter redirects them to an
//! intermediate device (`ifb`) as if that device sent them, through a token bucket, after which they continue as if
//! they had just arrived. CNI's bandwidth plugin does the same.

pub(super) mod text;
pub(super) mod wire;

use std::collections::BTreeSet;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::TcHandle;
use rtnetlink::{LinkIfb, LinkUnspec};

use super::link::Link;
use super::netlink::socket::{Netlink, NetlinkError, Request, failed};
use super::sysctl::Sysctl;
use super::{KernelError, link};
use crate::model::bandwidth::{LimitedInterface, Shaping};
use crate::model::host::observed::ObservedKind;
use crate::model::names::IfName;
use wire::{Bucket, Qdisc, Redirect};

const LOOK: &str = "see `tc qdisc`, `tc filter show ingress` and `dmesg`";

/// The kernel module that a request needs.
#[derive(Clone, Copy)]
enum Needs {
    Tbf,
    Ingress,
    U32,
    Ifb,
}

impl Needs {
    /// What to inspect if the kernel refused.
    fn look(self, error: &NetlinkError) -> &'static str {
        // `tc_modify_qdisc`, `tcf_proto_lookup_ops`, `tc_action_load_ops` and `__rtnl_newlink` return these if they do
        // not know the kind, after they have requested the module.
        if !matches!(error.errno, libc::ENOENT | libc::EOPNOTSUPP) {
            return LOOK;
        }
        match self {
            Self::Tbf => "the kernel lacks the token bucket: `modprobe sch_tbf`, or limits cannot be kept here",
            Self::Ingress => "the kernel lacks filters for incoming traffic: `modprobe sch_ingress`",
            Self::U32 => "the kernel lacks the filter that redirects: `modprobe cls_u32` and `modprobe act_mirred`",
            Self::Ifb => "the kernel lacks intermediate devices: `modprobe ifb numifbs=0`",
        }
    }

    fn refused(self, attempted: &'static str, on: impl std::fmt::Display) -> impl FnOnce(NetlinkError) -> KernelError {
        move |error| {
            let look = self.look(&error);
            failed(attempted, on, look)(error)
        }
    }
}

/// The existing limits of an interface.
#[derive(Debug)]
pub(super) struct ObservedLimits {
    /// Index of the interface.
    host: u32,
    /// The discipline for what the interface sends.
    pub(super) root: Option<Qdisc>,
    /// The kind of the discipline that carries filters for what it receives.
    ingress: Option<String>,
    /// Those of these filters that redirect.
    redirects: Vec<Redirect>,
    /// The intermediate device, and the discipline for what it sends.
    pub(super) ifb: Option<(Link, Option<Qdisc>)>,
}

impl ObservedLimits {
    fn read(netlink: &mut Netlink, host: u32, ifb: &IfName) -> Result<Self, KernelError> {
        let ingress = qdisc(netlink, host, TcHandle::INGRESS)?.map(|qdisc| qdisc.kind);
        let redirects = if ingress.is_some() { filters(netlink, host)?.1 } else { Vec::new() };
        let ifb = match link::get(netlink, ifb)? {
            Some(link) => {
                let root = qdisc(netlink, link.index, TcHandle::ROOT)?;
                Some((link, root))
            }
            None => None,
        };
        Ok(Self { host, root: qdisc(netlink, host, TcHandle::ROOT)?, ingress, redirects, ifb })
    }

    /// Whether what the interface receives is redirected to the intermediate device.
    pub(super) fn redirected(&self) -> bool {
        let ifb = self.ifb.as_ref().map(|(link, _)| link.index);
        self.redirects.first().is_some_and(|first| Some(first.to) == ifb)
    }
}

/// A discipline of an interface; `None` if there is none, or the interface no longer exists.
fn qdisc(netlink: &mut Netlink, index: u32, place: TcHandle) -> Result<Option<Qdisc>, KernelError> {
    let messages = match netlink.one(Request::echoed(wire::get(index, place))) {
        Err(error) if matches!(error.errno, libc::ENOENT | libc::ENODEV) => return Ok(None),
        outcome => outcome.map_err(failed("look up", format!("the queueing of interface number {index}"), LOOK))?,
    };
    Ok(messages.iter().find_map(|message| match message {
        RouteNetlinkMessage::NewQueueDiscipline(message) => Some(Qdisc::read(message)),
        _ => None,
    }))
}

/// The number of filters for what the interface receives, and those that redirect.
fn filters(netlink: &mut Netlink, index: u32) -> Result<(usize, Vec<Redirect>), KernelError> {
    let found = netlink.dump(&wire::get_filters(index), |message| match message {
        RouteNetlinkMessage::NewTrafficFilter(message) => Some(Redirect::read(&message)),
        _ => None,
    });
    let found = found.map_err(failed("list", format!("the filters of interface number {index}"), LOOK))?;
    Ok((found.len(), found.into_iter().flatten().collect()))
}

/// Makes the limits of the interface match the target. Existing limits are replaced, whoever made them; on failure,
/// what was made here is removed and what was changed is restored.
pub fn limit(netlink: &mut Netlink, sysctl: &Sysctl, shaping: &Shaping) -> Result<(), KernelError> {
    let host = link::index(&shaping.host_ifname)?;
    let before = ObservedLimits::read(netlink, host, &shaping.ifb)?;
    let done = apply(netlink, sysctl, shaping, &before);
    if done.is_err()
        && let Err(error) = take_back(netlink, shaping, &before)
    {
        tracing::warn!(%error, interface = %shaping.host_ifname, "cannot remove limits whose setup failed");
    }
    done
}

/// Changes that may be refused for lack of something come first, pure removals last.
fn apply(
    netlink: &mut Netlink,
    sysctl: &Sysctl,
    shaping: &Shaping,
    before: &ObservedLimits,
) -> Result<(), KernelError> {
    let bandwidth = shaping.bandwidth;
    if let Some(rate) = bandwidth.egress {
        let ifb = set_up_ifb(netlink, sysctl, shaping, Bucket::new(rate, shaping.mtu), before)?;
        redirect(netlink, shaping, before, ifb)?;
    }
    if let Some(rate) = bandwidth.ingress {
        set_bucket(netlink, before.host, Bucket::new(rate, shaping.mtu), &shaping.host_ifname)?;
    }
    if bandwidth.egress.is_none() {
        remove_redirects(netlink, before.host, |redirect| ours(redirect, before))?;
        link::delete(netlink, &[&shaping.ifb])?;
    }
    if bandwidth.ingress.is_none() {
        remove_bucket(netlink, before.host)?;
    }
    Ok(())
}

fn set_bucket(
    netlink: &mut Netlink,
    index: u32,
    bucket: Bucket,
    on: &impl std::fmt::Display,
) -> Result<(), KernelError> {
    let there = qdisc(netlink, index, TcHandle::ROOT)?;
    // Another kind under netd's handle: the kernel does not change the kind of an existing discipline.
    if there.is_some_and(|there| there.handle == wire::HANDLE && !there.ours()) {
        gone_is_fine(netlink, wire::delete_root(index))?;
    }
    let set = netlink.one(Request::replace(wire::set_bucket(index, bucket)));
    set.map_err(Needs::Tbf.refused("limit", on)).map(drop)
}

fn remove_bucket(netlink: &mut Netlink, index: u32) -> Result<(), KernelError> {
    let ours = qdisc(netlink, index, TcHandle::ROOT)?.is_some_and(|there| there.ours());
    if ours { gone_is_fine(netlink, wire::delete_root(index)) } else { Ok(()) }
}

fn gone_is_fine(netlink: &mut Netlink, message: RouteNetlinkMessage) -> Result<(), KernelError> {
    match netlink.one(Request::plain(message)) {
        Err(error) if !matches!(error.errno, libc::ENOENT | libc::ENODEV) => {
            Err(failed("take the limits off", "an interface", LOOK)(error))
        }
        _ => Ok(()),
    }
}

/// Sets up the intermediate device, limited before it comes up. Returns its index.
fn set_up_ifb(
    netlink: &mut Netlink,
    sysctl: &Sysctl,
    shaping: &Shaping,
    bucket: Bucket,
    before: &ObservedLimits,
) -> Result<u32, KernelError> {
    let name = &shaping.ifb;
    let taken = || KernelError::NameTaken { ifname: name.clone(), within: "the host".into() };
    let index = match &before.ifb {
        Some((link, _)) if link.ours() && link.kind == ObservedKind::Ifb => link.index,
        Some(_) => return Err(taken()),
        None => {
            let ifb = LinkIfb::new(name.as_str()).mtu(shaping.mtu).link_group(link::LINK_GROUP).build();
            match netlink.one(Request::create(RouteNetlinkMessage::NewLink(ifb))) {
                Ok(_) => link::index(name)?,
                Err(error) if error.errno == libc::EEXIST => return Err(taken()),
                Err(error) => return Err(Needs::Ifb.refused("create intermediate device", name)(error)),
            }
        }
    };
    set_bucket(netlink, index, bucket, name)?;
    sysctl.prepare_port(name.as_str())?;
    let change = LinkUnspec::new_with_index(index)
        .mtu(shaping.mtu)
        .alias(format!("netd: {} on {} (limits)", shaping.container, shaping.network))
        .up();
    let change = netlink.one(Request::plain(RouteNetlinkMessage::SetLink(change.build())));
    change.map_err(failed("set up intermediate device", name, LOOK))?;
    Ok(index)
}

/// Redirects what the interface receives to the intermediate device, and nowhere else.
fn redirect(netlink: &mut Netlink, shaping: &Shaping, before: &ObservedLimits, ifb: u32) -> Result<(), KernelError> {
    let on = &shaping.host_ifname;
    if before.ingress.is_none() {
        let added = netlink.one(Request::create(wire::add_ingress(before.host)));
        added.map_err(Needs::Ingress.refused("prepare to redirect incoming traffic of", on))?;
    }
    // A filter cannot be changed in place; one that already matches is kept.
    if let [only] = before.redirects.as_slice()
        && only.to == ifb
    {
        return Ok(());
    }
    let others = before.redirects.iter().map(|other| Request::plain(other.delete(before.host)));
    let mut requests: Vec<Request> = others.collect();
    requests.push(Request::create(wire::add_redirect(before.host, ifb)));
    let mut outcomes = netlink.send(&requests).map_err(failed("redirect incoming traffic of", on, LOOK))?;
    let added = outcomes.pop().unwrap_or_else(|| Ok(Vec::new()));
    added.map_err(Needs::U32.refused("redirect incoming traffic of", on)).map(drop)
}

/// Whether it redirects to netd's intermediate device, or to one that no longer exists.
fn ours(redirect: Redirect, found: &ObservedLimits) -> bool {
    redirect.to == 0 || found.ifb.as_ref().is_some_and(|(link, _)| link.ours() && link.index == redirect.to)
}

/// Removes these redirects, and the discipline that carried them if it carries nothing else.
fn remove_redirects(netlink: &mut Netlink, host: u32, which: impl Fn(Redirect) -> bool) -> Result<(), KernelError> {
    let Some(ingress) = qdisc(netlink, host, TcHandle::INGRESS)? else { return Ok(()) };
    let (_, redirects) = filters(netlink, host)?;
    for redirect in redirects.into_iter().filter(|redirect| which(*redirect)) {
        gone_is_fine(netlink, redirect.delete(host))?;
    }
    let empty = filters(netlink, host)?.0 == 0;
    if empty && ingress.kind == wire::INGRESS { gone_is_fine(netlink, wire::delete_ingress(host)) } else { Ok(()) }
}

/// Restores the former limits.
fn take_back(netlink: &mut Netlink, shaping: &Shaping, before: &ObservedLimits) -> Result<(), KernelError> {
    put_back(netlink, before.host, before.root.as_ref())?;
    if before.redirects.is_empty() {
        let now = ObservedLimits::read(netlink, before.host, &shaping.ifb)?;
        remove_redirects(netlink, before.host, |redirect| ours(redirect, &now))?;
    }
    match &before.ifb {
        None => link::delete(netlink, &[&shaping.ifb]),
        Some((link, root)) if link.ours() => put_back(netlink, link.index, root.as_ref()),
        Some(_) => Ok(()),
    }
}

fn put_back(netlink: &mut Netlink, index: u32, before: Option<&Qdisc>) -> Result<(), KernelError> {
    let now = qdisc(netlink, index, TcHandle::ROOT)?;
    match before.filter(|before| before.ours()).and_then(|before| before.bucket) {
        _ if now.as_ref() == before => Ok(()),
        Some(bucket) => set_bucket(netlink, index, bucket, &"an interface as it was"),
        None => remove_bucket(netlink, index),
    }
}

/// Removes the limits of each interface, and deletes the intermediate devices together. Missing objects are no error;
/// those that are not netd's stay. Continues after an error and reports the first one.
pub fn unshape(netlink: &mut Netlink, interfaces: &[LimitedInterface]) -> Result<(), KernelError> {
    let mut done = Ok(());
    for limited in interfaces {
        done = done.and(unshape_one(netlink, limited));
    }
    let ifbs: Vec<_> = interfaces.iter().map(|limited| &limited.ifb).collect();
    done.and(link::delete(netlink, &ifbs))
}

fn unshape_one(netlink: &mut Netlink, limited: &LimitedInterface) -> Result<(), KernelError> {
    let Some(host) = link::get(netlink, &limited.host_ifname)? else { return Ok(()) };
    let found = ObservedLimits::read(netlink, host.index, &limited.ifb)?;
    let redirects = remove_redirects(netlink, host.index, |redirect| ours(redirect, &found));
    remove_bucket(netlink, host.index).and(redirects)
}

/// The interfaces that carry limits of netd, whichever program made them; without intermediate devices.
pub fn limited(netlink: &mut Netlink) -> Result<BTreeSet<IfName>, KernelError> {
    let relevant = netlink.dump(&wire::get_all(), |message| match message {
        RouteNetlinkMessage::NewQueueDiscipline(message) => {
            let receives = message.header.parent == TcHandle::INGRESS;
            let relevant = receives || Qdisc::read(&message).ours();
            relevant.then_some((message.header.index.cast_unsigned(), receives))
        }
        _ => None,
    });
    let relevant: Vec<(u32, bool)> = match relevant {
        // A kernel without traffic control.
        Err(error) if error.errno == libc::EOPNOTSUPP => return Ok(BTreeSet::new()),
        outcome => outcome.map_err(failed("list", "the queueing of all interfaces", LOOK))?,
    };
    if relevant.is_empty() {
        return Ok(BTreeSet::new());
    }
    let links = link::list(netlink)?;
    let is_ifb =
        |index: u32| links.iter().any(|link| link.index == index && link.ours() && link.kind == ObservedKind::Ifb);
    let mut limited = BTreeSet::new();
    for (index, receives) in relevant.iter().filter(|(index, _)| !is_ifb(*index)) {
        if !receives || filters(netlink, *index)?.1.iter().any(|redirect| is_ifb(redirect.to)) {
            let link = links.iter().find(|link| link.index == *index);
            limited.extend(link.and_then(|link| link.name.parse::<IfName>().ok()));
        }
    }
    Ok(limited)
}

/// Describes how the limits differ from the target; `None` if they match.
pub fn differs(netlink: &mut Netlink, shaping: &Shaping) -> Result<Option<String>, KernelError> {
    let Some(host) = link::get(netlink, &shaping.host_ifname)? else {
        return Ok(Some(format!("interface {} is gone", shaping.host_ifname)));
    };
    let found = ObservedLimits::read(netlink, host.index, &shaping.ifb)?;
    Ok(text::difference(&found, shaping))
}

#[cfg(test)]
mod tests;
