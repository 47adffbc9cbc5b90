//! Stand-ins: a thread in a network namespace of its own, joined to a bridge of the host by a veth pair, does for a
//! moment what a container there would do.
//!
//! The namespace ends with its thread, and the pair with the namespace, also when netd is killed. The host end never
//! leaves the group of unfinished links, so that a repair removes what is left of it all the same. The bridge's own
//! address and MTU, which follow its ports if nobody has set them, stay as they are.
//!
//! When the answers are there, nobody has the addresses any more. Removing a pair takes 20 ms, for which nobody waits
//! but who looks at the host's links (`Leaving`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::mpsc::{Receiver, RecvError, Sender, channel};
use std::thread::{Builder, JoinHandle};

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoPortKind, InfoVeth};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Link, address, neighbour, route};
use crate::kernel::netlink::socket::{Netlink, Request, failed};
use crate::kernel::sysctl::Sysctl;
use crate::kernel::{KernelError, link};
use crate::model::address::Mac;
use crate::model::host::observed::ObservedKind;
use crate::model::host::probe::StandIn;
use crate::model::names::IfName;
use crate::os::sys;

const LOOK: &str = "see `ip -d link` and `dmesg`";
/// The interface in the stand-in's namespace.
const INSIDE: &str = "eth0";
/// Bytes; the thread writes a few small files and asks.
const STACK: usize = 256 << 10;

/// Stand-ins at work.
pub(in crate::kernel) struct StandIns<T>(Vec<Result<Standing<T>, KernelError>>);

/// A stand-in that is joined to its bridge.
struct Standing<T> {
    stand_in: StandIn,
    /// The bridge.
    index: u32,
    started: Started<T>,
}

/// A thread in a namespace of its own, which ends when this is dropped.
struct Started<T> {
    /// One message, once the pair is made; then it is kept as long as the namespace is needed.
    go: Sender<()>,
    answer: Receiver<io::Result<T>>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> StandIns<T> {
    /// Starts these jobs, each in a namespace on its bridge. `host`: a socket of the bridges' namespace.
    pub(in crate::kernel) fn begin<J>(host: &mut Netlink, sysctl: &Sysctl, jobs: Vec<(StandIn, J)>) -> Self
    where
        J: FnOnce() -> io::Result<T> + Send + 'static,
    {
        // The namespaces are made at the same time.
        let started: Vec<_> = jobs
            .into_iter()
            .map(|(stand_in, job)| start(&stand_in, job).map(|(started, made)| (stand_in, started, made)))
            .collect();
        let mut standing = |outcome: Result<(StandIn, Started<T>, Receiver<File>), KernelError>| {
            let (stand_in, started, made) = outcome?;
            let Ok(namespace) = made.recv() else { return Err(gone(&stand_in, &started)) };
            let index = join(host, sysctl, &stand_in, &namespace)?;
            // A thread that has ended says so where its answer is awaited.
            let _ = started.go.send(());
            Ok(Standing { stand_in, index, started })
        };
        Self(started.into_iter().map(&mut standing).collect())
    }

    /// Waits for the results, and removes what the host has noted about the stand-ins. The pairs are `leaving`.
    pub(in crate::kernel) fn end(self, host: &mut Netlink, leaving: &mut Leaving) -> Vec<Result<T, KernelError>> {
        let answered = |standing: &Standing<T>| {
            let answer = standing.started.answer.recv().unwrap_or_else(|RecvError| Err(panicked()));
            answer.map_err(failed("ask from a namespace on", &standing.stand_in.bridge, LOOK))
        };
        let (mut answers, mut made) = (Vec::new(), Vec::new());
        for outcome in self.0 {
            answers.push(outcome.and_then(|standing| {
                let answer = answered(&standing);
                made.push(standing);
                answer
            }));
        }
        let noted = |standing: &Standing<T>| {
            let index = standing.index;
            standing.stand_in.addresses.iter().map(move |address| (index, address.ip())).collect::<Vec<_>>()
        };
        let noted: Vec<_> = made.iter().flat_map(noted).collect();
        if let Err(error) = neighbour::forget(host, &noted) {
            tracing::warn!(%error, "cannot remove neighbour entries of addresses from which netd asked");
        }
        // Dropping the senders lets the threads go on.
        let threads = made.into_iter().map(|standing| (standing.stand_in.host_ifname, standing.started.thread));
        leaving.0.extend(threads);
        answers
    }
}

/// Stand-ins whose pairs are being removed, by the name of the host end.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Leaving(Vec<(IfName, JoinHandle<()>)>);

impl Leaving {
    /// Waits until nothing is left of them.
    pub(in crate::kernel) fn wait(&mut self) {
        self.wait_for(|_| true);
    }

    /// Waits until nothing is left of those with such a name.
    pub(in crate::kernel) fn wait_for(&mut self, is_awaited: impl Fn(&IfName) -> bool) {
        for (_, thread) in self.0.extract_if(.., |(name, thread)| thread.is_finished() || is_awaited(name)) {
            // One that panicked has said so where its answer was awaited.
            let _ = thread.join();
        }
    }
}

/// Starts the thread. It sends the namespace, waits for the pair, sets up its end, does the job, and removes the pair.
fn start<T: Send + 'static>(
    stand_in: &StandIn,
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<(Started<T>, Receiver<File>), KernelError> {
    let (tell, made) = channel();
    let (go, wait) = channel();
    let (reply, answer) = channel();
    let begun = stand_in.clone();
    let work = move || {
        let made = Netlink::open().and_then(|host| in_own_namespace(tell, &wait).map(|()| host));
        let mut host = match made {
            Ok(host) => host,
            // Nobody waits for it any more if the pair was not made.
            Err(error) => return drop(reply.send(Err(error))),
        };
        let _ = reply.send(as_stand_in(&host, &begun, job));
        let _ = wait.recv();
        if let Err(error) = link::delete(&mut host, &[&begun.host_ifname]) {
            tracing::warn!(%error, "cannot remove an interface from which netd asked");
        }
    };
    let thread = Builder::new().name("stand-in".into()).stack_size(STACK).spawn(work);
    let thread = thread.map_err(failed("start a thread for a namespace on", &stand_in.bridge, "see `ulimit -u`"))?;
    Ok((Started { go, answer, thread }, made))
}

/// Moves the thread to a new namespace, sends that, and waits until the pair is made.
fn in_own_namespace(tell: Sender<File>, wait: &Receiver<()>) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let namespace = File::open("/proc/thread-self/ns/net")?;
    let not_made = |_| io::Error::other("the veth pair was not made");
    tell.send(namespace).map_err(|_| io::Error::other("nobody makes the veth pair"))?;
    drop(tell);
    wait.recv().map_err(not_made)
}

/// The error of a thread that did not get a namespace.
fn gone<T>(stand_in: &StandIn, started: &Started<T>) -> KernelError {
    let error = match started.answer.recv() {
        Ok(Err(error)) => error,
        _ => panicked(),
    };
    failed("make a network namespace on", &stand_in.bridge, "see `sysctl user.max_net_namespaces`")(error)
}

fn panicked() -> io::Error {
    io::Error::other("the thread inside the namespace panicked")
}

/// Makes the pair, with the host end as a port of the bridge that is up. Returns the bridge's index.
fn join(host: &mut Netlink, sysctl: &Sysctl, stand_in: &StandIn, namespace: &File) -> Result<u32, KernelError> {
    let bridge = bridge(host, stand_in)?;
    let message = pair(stand_in, &bridge, namespace);
    let made = match host.one(message.clone()) {
        // What a killed daemon left may go at any moment.
        Err(error) if error.errno == libc::EEXIST => {
            link::delete(host, &[&stand_in.host_ifname])?;
            host.one(message)
        }
        made => made,
    };
    made.map_err(failed("create veth pair", &stand_in.host_ifname, LOOK))?;
    let name = stand_in.host_ifname.as_str();
    let port = LinkMessageBuilder::<LinkBridgePort>::default()
        .set_port_kind(InfoPortKind::Bridge)
        .isolated(true)
        .name(name)
        .up()
        .build();
    let up = sysctl.prepare_port(name).and_then(|()| {
        host.all(&[Request::plain(RouteNetlinkMessage::NewLink(port))]).map_err(failed(
            "set up bridge port",
            name,
            LOOK,
        ))
    });
    if up.is_err()
        && let Err(error) = link::delete(host, &[&stand_in.host_ifname])
    {
        tracing::warn!(%error, "cannot remove an interface whose setup failed");
    }
    up.map(|()| bridge.index)
}

fn bridge(host: &mut Netlink, stand_in: &StandIn) -> Result<Link, KernelError> {
    let found = link::get(host, &stand_in.bridge)?.filter(|link| link.kind == ObservedKind::Bridge && link.up);
    let none = || io::Error::new(io::ErrorKind::NotFound, "there is no such bridge, or it is down");
    found.ok_or_else(|| failed("ask from a namespace on", &stand_in.bridge, "see `ip -d link`")(none()))
}

fn pair(stand_in: &StandIn, bridge: &Link, namespace: &File) -> Request {
    let mac = stand_in.addresses.first().map(|address| Mac::for_address(address.ip()));
    let mut peer =
        LinkMessageBuilder::<LinkUnspec>::new().name(INSIDE).mtu(bridge.mtu).setns_by_fd(namespace.as_raw_fd());
    let mut message = LinkVeth::new(stand_in.host_ifname.as_str(), INSIDE);
    if let Some(mac) = mac {
        let [.., a, b, c, d] = mac.bytes();
        peer = peer.address(mac.bytes().to_vec());
        // A bridge without an address of its own has the lowest one of its ports: none is higher than this one.
        message = message.address(vec![0xfe, 0xff, a, b, c, d]);
    }
    let message = message
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
        .controller(bridge.index)
        .link_group(link::UNFINISHED_GROUP)
        .mtu(bridge.mtu)
        .build();
    Request::create(RouteNetlinkMessage::NewLink(message))
}

/// Does the job with the stand-in's addresses, on its thread. `host`: a socket of the host.
fn as_stand_in<T>(host: &Netlink, stand_in: &StandIn, job: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let (mut inside, index) = set_up(host, stand_in)?;
    let answer = job();
    let requests = stand_in.addresses.iter().map(|address| address::remove(index, *address));
    inside.all(&requests.collect::<Vec<_>>())?;
    answer
}

/// Sets up the stand-in's interface. Returns a socket there, and its index.
fn set_up(host: &Netlink, stand_in: &StandIn) -> io::Result<(Netlink, u32)> {
    let v6 = stand_in.addresses.iter().any(IpNetwork::is_ipv6);
    Sysctl::open().prepare_container(INSIDE, v6).map_err(io::Error::other)?;
    let mut inside = Netlink::open()?;
    let index = if_nametoindex(INSIDE)?;
    let up = LinkUnspec::new_with_index(index).up().build();
    let mut requests = vec![Request::plain(RouteNetlinkMessage::SetLink(up))];
    requests.extend(stand_in.addresses.iter().map(|address| address::add(index, *address)));
    inside.all(&requests)?;
    settle(host, stand_in.host_ifname.as_str());
    settle(host, stand_in.bridge.as_str());
    settle(&inside, INSIDE);
    stand_in.addresses.iter().for_each(|address| route::settle_address(&mut inside, index, address.ip()));
    Ok((inside, index))
}

/// If the kernel cannot settle the carrier at once, it does so a moment later.
fn settle(socket: impl AsFd, ifname: &str) {
    if let Err(error) = sys::settle_carrier(socket, ifname) {
        tracing::debug!(%ifname, %error, "the interface has no carrier yet");
    }
}

#[cfg(test)]
mod tests;
