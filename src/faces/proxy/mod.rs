//! The proxy: passes on what arrives at published ports and the kernel does not translate, as Docker's userland proxy
//! does.
//!
//! The container sees the connection come from the gateway of its network. Connections and flows are bounded for all
//! ports together and per client.

mod schedule;
mod tcp;
mod udp;
mod watch;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::shares::{Share, Shares};
use crate::engine::proxy::{PortSocket, Proxying, ProxyingReceiver, Served};
use crate::model::endpoint::Netns;
use crate::model::host::backend::Backend;
use crate::model::host::step::HostPort;
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

/// The tasks of a served port; they end when `stop` is cancelled.
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

/// Serves the ports that the engine names, until the engine ends.
pub async fn serve(mut changes: ProxyingReceiver) {
    let shared = Shared {
        connections: Shares::new(CONNECTIONS, ALONE),
        flows: Shares::new(FLOWS, ALONE),
        watcher: Watcher::start(),
    };
    let mut served: HashMap<HostPort, Tasks> = HashMap::new();
    while let Some(change) = changes.recv().await {
        match change {
            Proxying::Serve(ports, netns) => {
                for Served { port, socket, to } in ports {
                    match start(socket, to, netns.clone(), &shared) {
                        Ok(tasks) => _ = served.insert(port, tasks),
                        Err(error) => tracing::error!(%error, port = %port, "cannot serve a published port"),
                    }
                }
            }
            Proxying::Moved(netns) => shared.watcher.moved(netns),
            Proxying::Stop { ports, closed } => {
                for port in ports {
                    if let Some(tasks) = served.remove(&port) {
                        tasks.end().await;
                    }
                }
                drop(closed);
            }
        }
    }
}

fn start(socket: PortSocket, to: Backend, netns: Netns, shared: &Shared) -> std::io::Result<Tasks> {
    let tasks = Tasks::default();
    match socket {
        PortSocket::Tcp(socket) => {
            let at = to.at;
            let watched = shared.watcher.watch(netns, to);
            tasks.spawn(tcp::serve(socket, at, watched, shared.connections.clone(), tasks.clone()));
        }
        PortSocket::Udp(socket) => {
            let socket = Arc::new(tokio::net::UdpSocket::from_std(socket)?);
            tasks.spawn(udp::serve(socket, to.at, shared.flows.clone(), tasks.clone()));
        }
    }
    Ok(tasks)
}
