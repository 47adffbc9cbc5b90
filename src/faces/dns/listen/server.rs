//! The server: opens and closes the DNS sockets as the engine requests.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::udp::UdpLoop;
use super::{tcp, udp};
use crate::base::connections::Connections;
use crate::base::descriptors::Capacity;
use crate::engine::Handle;
use crate::engine::dns::names::Names;
use crate::engine::listener::{DnsSockets, Listening, ListeningReceiver};
use crate::engine::telemetry::Telemetry;
use crate::faces::dns::answer::names::Forwarding;
use crate::faces::dns::answer::slow_path::Handler;
use crate::faces::dns::telemetry::{Listener, Recorder};
use crate::faces::dns::{Config, View};

/// Answers questions on the sockets that the engine passes to it.
pub struct Server {
    handler: Handler,
    listening: ListeningReceiver,
    telemetry: Arc<Telemetry>,
    clients: Arc<Connections<IpAddr>>,
    capacity: Capacity,
    serving: HashMap<IpAddr, Serving>,
}

/// What serves one address.
struct Serving {
    udp: udp::Serving,
    stop: CancellationToken,
    tcp: JoinHandle<()>,
}

impl Server {
    /// Creates a server without sockets. `view` is called once for each batch of queries, after they have arrived.
    /// `telemetry` receives the counters and the query logs.
    pub fn new(config: Config, view: View, listening: ListeningReceiver, telemetry: Arc<Telemetry>) -> Self {
        let capacity = config.capacity;
        let clients = Connections::new(tcp::PER_CLIENT, tcp::TOTAL);
        Self { handler: Handler::new(config, view), listening, telemetry, clients, capacity, serving: HashMap::new() }
    }

    /// Has the engine open what is answered to containers whose egress is denied.
    pub fn open_with(&self, engine: Handle) {
        self.handler.open_with(engine);
    }

    /// The interface through which other faces ask questions.
    pub fn names(&self) -> Arc<dyn Names> {
        Arc::new(Forwarding(self.handler.clone()))
    }

    /// Serves until `stop` is cancelled or the engine is gone, then closes every socket. It returns earlier only if the
    /// UDP loop cannot run.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut udp, mut ended) = match UdpLoop::start(&self.handler) {
            Ok(started) => started,
            Err(error) => {
                error!("start the name service: {error}");
                return;
            }
        };
        let recorder = Recorder::start(self.telemetry.clone());
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => break,
                _ = &mut ended => break,
                received = self.listening.recv() => received,
            };
            match received {
                None => break,
                Some(Listening::Serve(sockets)) => {
                    let address = sockets.address;
                    self.close(&udp, address).await;
                    match self.serve(&mut udp, sockets, recorder.clone()) {
                        Ok(()) => debug!(%address, "DNS is served"),
                        Err(error) => error!(
                            "serve DNS on {address}: {error}: names do not resolve there until netd is restarted"
                        ),
                    }
                }
                Some(Listening::Alive(tell)) => {
                    udp.is_alive().await;
                    // The requester may have timed out.
                    let _ = tell.send(());
                }
                Some(Listening::Stop { address, closed }) => {
                    self.close(&udp, address).await;
                    drop(closed);
                }
            }
        }
        let addresses: Vec<IpAddr> = self.serving.keys().copied().collect();
        for address in addresses {
            self.close(&udp, address).await;
        }
    }

    fn serve(&mut self, udp: &mut UdpLoop, sockets: DnsSockets, recorder: Recorder) -> io::Result<()> {
        let dns_listener = Listener::new(recorder, sockets.address, sockets.client);
        self.handler.forwarder().set_beside(sockets.address, sockets.beside);
        let listener = TcpListener::from_std(sockets.tcp)?;
        let udp = udp.serve(sockets.udp, &dns_listener)?;
        let stop = CancellationToken::new();
        let limits = tcp::Limits { clients: self.clients.clone(), capacity: self.capacity };
        let tcp = tokio::spawn(tcp::serve(listener, self.handler.clone(), limits, dns_listener, stop.clone()));
        self.serving.insert(sockets.address, Serving { udp, stop, tcp });
        Ok(())
    }

    /// Returns once the sockets are closed, so that the address can be bound again at once.
    async fn close(&mut self, udp: &UdpLoop, address: IpAddr) {
        if let Some(serving) = self.serving.remove(&address) {
            serving.stop.cancel();
            udp.close(serving.udp).await;
            // Fails only when the task panicked, which tokio reports.
            let _ = serving.tcp.await;
            self.handler.forwarder().set_beside(address, None);
            debug!(%address, "DNS is no longer served");
        }
    }
}
