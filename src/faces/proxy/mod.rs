//! The proxy: passes on what arrives at published ports and the kernel does not translate, as Docker's userland proxy
//! does.
//!
//! The container sees the connection come from the gateway of its network. Connections and flows are bounded for all
//! ports together and per client.

mod draining;
mod schedule;
mod tcp;
mod udp;
mod watch;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::shares::{Share, Shares};
use crate::engine::proxy::{PortSocket, Proxying, ProxyingReceiver, Served};
use crate::model::endpoint::Netns;
use crate::model::host::backend::Backend;
use crate::model::host::step::HostPort;
use draining::Draining;
use watch::Watcher;

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
    to: SocketAddr,
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
pub async fn serve(mut changes: ProxyingReceiver) {
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
                    match start(socket, to, netns.clone(), &shared) {
                        Ok(started) => _ = served.insert(port, started),
                        Err(error) => tracing::error!(%error, port = %port, "cannot serve a published port"),
                    }
                }
            }
            Proxying::Moved(netns) => shared.watcher.moved(netns),
            Proxying::Stop { ports, drain, closed } => {
                for port in ports.iter().filter_map(|port| served.remove(port)) {
                    match &drain {
                        None => port.end().await,
                        Some(container) => draining.add(container, port.to.ip(), port.drain().await),
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

fn start(socket: PortSocket, to: Backend, netns: Netns, shared: &Shared) -> std::io::Result<Port> {
    let mut port = Port { to: to.at, receiving: Tasks::default(), accepted: Tasks::default(), flows: None };
    match socket {
        PortSocket::Tcp(socket) => {
            let watched = shared.watcher.watch(netns, to);
            let serve = tcp::serve(socket, port.to, watched, shared.connections.clone(), port.accepted.clone());
            port.receiving.spawn(serve);
        }
        PortSocket::Udp(socket) => {
            let flows = Arc::new(udp::Port::new(socket)?);
            port.receiving.spawn(udp::serve(flows.clone(), port.to, shared.flows.clone(), port.receiving.clone()));
            port.flows = Some(flows);
        }
    }
    Ok(port)
}
