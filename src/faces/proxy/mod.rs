//! The proxy: passes on what arrives at published ports and the kernel does not translate, as Docker's userland proxy
//! does.
//!
//! The container sees the connection come from the gateway of its network. What arrives at a port of a service is sent to the
//! same port at an address of the host where the kernel translates it (`target`). Connections and flows are bounded for all
//! ports together and per client.

mod draining;
mod gate;
mod schedule;
mod target;
mod tcp;
mod udp;
mod watch;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::shares::{Share, Shares};
use crate::engine::Behind;
use crate::engine::Handle;
use crate::engine::proxy::{PortSocket, Proxying, ProxyingReceiver, Served};
use crate::model::host::step::HostPort;
use draining::Draining;
use gate::Gate;
use target::{Target, To};
use watch::{Watched, Watcher};

/// Maximum number of TCP connections: each takes two descriptors and two buffers of [`tcp::BUFFER`] bytes.
const CONNECTIONS: u64 = 2048;
/// Maximum number of UDP flows: each takes a descriptor.
const FLOWS: u64 = 2048;
/// One client may have three quarters of what is left.
const ALONE: u64 = 3;

/// What all ports share.
#[derive(Debug, Clone)]
struct Shared {
    connections: Arc<Shares<IpAddr>>,
    flows: Arc<Shares<IpAddr>>,
    watcher: Watcher,
}

/// A place for a connection or a flow of a client.
type Place = Share<IpAddr>;

/// Tasks that end when `stop` is cancelled.
#[derive(Debug, Clone, Default)]
struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        drop(self.tracker.spawn(async move {
            stop.run_until_cancelled(task).await;
        }));
    }

    /// Returns when all tasks have ended and their sockets are closed.
    async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// A port that is served.
#[derive(Debug)]
struct Port {
    /// The container's address; `None` for a port of a service.
    to: Option<IpAddr>,
    /// What receives at the port's socket.
    receiving: Tasks,
    /// What has sockets of its own: connections that were accepted.
    accepted: Tasks,
    flows: Option<Arc<udp::Port>>,
}

impl Port {
    /// Returns when all its sockets are closed.
    async fn end(self) {
        self.receiving.end().await;
        self.accepted.end().await;
    }

    /// Returns when the port's socket is closed, with what goes on without it.
    async fn drain(self) -> Tasks {
        self.receiving.end().await;
        if let Some(flows) = self.flows {
            flows.part(&self.accepted);
        }
        self.accepted
    }
}

/// Serves the ports that the engine names, until the engine ends.
pub async fn serve(engine: Handle, mut changes: ProxyingReceiver) {
    let shared = Shared {
        connections: Shares::new(CONNECTIONS, ALONE),
        flows: Shares::new(FLOWS, ALONE),
        watcher: Watcher::start(),
    };
    let (mut served, mut draining): (HashMap<HostPort, Port>, _) = (HashMap::new(), Draining::default());
    while let Some(change) = changes.recv().await {
        match change {
            Proxying::Serve(ports, netns) => {
                for Served { port, socket, to } in ports {
                    let gate = Gate::new(Some(engine.clone()), Behind::Container(to.at, port.protocol));
                    let target = Target { to: To::Container(to.at), gate };
                    let watch = || shared.watcher.watch(netns.clone(), to.clone());
                    add(&mut served, port, start(socket, &target, watch, &shared));
                }
            }
            Proxying::ServeService(ports, way) => {
                for (port, socket) in ports {
                    let gate = Gate::new(Some(engine.clone()), Behind::Service(port));
                    let target = Target { to: To::Service { way: way.clone(), port: port.port }, gate };
                    add(&mut served, port, start(socket, &target, || Watched::of_service(way.clone()), &shared));
                }
            }
            Proxying::Moved(netns) => shared.watcher.moved(netns),
            Proxying::Stop { ports, drain, closed } => {
                for port in ports.iter().filter_map(|port| served.remove(port)) {
                    match drain.as_ref().zip(port.to) {
                        None => port.end().await,
                        Some((container, to)) => draining.add(container, to, port.drain().await),
                    }
                }
                drop(closed);
            }
            Proxying::Left { container, addresses, closed } => {
                draining.end(&container, &addresses).await;
                drop(closed);
            }
        }
    }
}

fn add(served: &mut HashMap<HostPort, Port>, port: HostPort, started: std::io::Result<Port>) {
    match started {
        Ok(started) => _ = served.insert(port, started),
        Err(error) => tracing::error!(%error, port = %port, "cannot serve a published port"),
    }
}

/// `watch` begins to look whether somebody is behind a TCP port.
fn start(
    socket: PortSocket,
    target: &Target,
    watch: impl FnOnce() -> Watched,
    shared: &Shared,
) -> std::io::Result<Port> {
    let (receiving, accepted) = (Tasks::default(), Tasks::default());
    let mut port = Port { to: target.container(), receiving, accepted, flows: None };
    let target = target.clone();
    match socket {
        PortSocket::Tcp(socket) => {
            let serve = tcp::serve(socket, target, watch(), shared.connections.clone(), port.accepted.clone());
            port.receiving.spawn(serve);
        }
        PortSocket::Udp(socket) => {
            let flows = Arc::new(udp::Port::new(socket)?);
            port.receiving.spawn(udp::serve(flows.clone(), target, shared.flows.clone(), port.receiving.clone()));
            port.flows = Some(flows);
        }
    }
    Ok(port)
}
