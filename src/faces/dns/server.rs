//! The server: which sockets are served, from the engine's word to open them to its word to close them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use hickory_server::Server as Hickory;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::handler::Handler;
use super::{Config, View};
use crate::engine::listener::{DnsSockets, Listening, ListeningReceiver};

/// A TCP connection on which nothing is asked for this long is closed (RFC 7766, 6.2.3: "a few seconds"); longer than
/// an upstream may take.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Replies that may wait on a TCP connection whose asker does not read; further ones are dropped.
const TCP_BACKLOG: usize = 128;

/// Answers on the sockets that the engine hands over.
pub struct Server {
    handler: Handler,
    listening: ListeningReceiver,
    serving: HashMap<IpAddr, Serving>,
}

struct Serving {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// A server that serves nothing yet. `view` is called once for each query.
    pub fn new(config: Config, view: View, listening: ListeningReceiver) -> Self {
        Self { handler: Handler::new(config, view), listening, serving: HashMap::new() }
    }

    /// Serves until told to stop, or until the engine is gone; then every socket is closed.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let told = tokio::select! {
                () = stop.cancelled() => break,
                told = self.listening.recv() => told,
            };
            match told {
                None => break,
                Some(Listening::Serve(sockets)) => {
                    self.close(sockets.address).await;
                    self.serve(sockets);
                }
                Some(Listening::Stop { address, closed }) => {
                    self.close(address).await;
                    drop(closed);
                }
            }
        }
        let addresses: Vec<IpAddr> = self.serving.keys().copied().collect();
        for address in addresses {
            self.close(address).await;
        }
    }

    fn serve(&mut self, sockets: DnsSockets) {
        let address = sockets.address;
        let opened =
            UdpSocket::from_std(sockets.udp).and_then(|udp| TcpListener::from_std(sockets.tcp).map(|tcp| (udp, tcp)));
        let (udp, tcp) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                error!("serve DNS on {address}: {error}: names do not resolve there until netd is restarted");
                return;
            }
        };
        let mut server = Hickory::new(self.handler.clone());
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_BACKLOG);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                ended = server.block_until_done() => error!(
                    "serve DNS on {address}: ended by itself ({ended:?}): names do not resolve there until netd is \
                     restarted"
                ),
                () = stopped.cancelled() => drop(server.shutdown_gracefully().await),
            }
        });
        debug!(%address, "DNS is served");
        self.serving.insert(address, Serving { stop, task });
    }

    /// Returns when the sockets are closed, so that the address can be bound again at once.
    async fn close(&mut self, address: IpAddr) {
        if let Some(serving) = self.serving.remove(&address) {
            serving.stop.cancel();
            // Fails only when the task panicked, which hickory's tasks report themselves.
            let _ = serving.task.await;
            debug!(%address, "DNS is no longer served");
        }
    }
}
