//! The slow way of UDP: what the loop does not answer itself is read, answered or forwarded by tasks.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::debug;

use super::admission::Share;
use crate::faces::dns::answer::slow_path::{Handler, Outcome};
use crate::faces::dns::message::origin::Origin;
use crate::faces::dns::message::wire::Transport;
use crate::faces::dns::telemetry;
use crate::faces::dns::telemetry::{Place, Replied};

/// The slow way's own descriptor of an address's sockets, which are all the same for who is answered; `None` once it is
/// closed.
#[derive(Debug)]
pub(crate) struct Outlet(RwLock<Option<UdpSocket>>);

/// A message for the slow way.
pub(crate) struct Job {
    pub(crate) message: Vec<u8>,
    /// Where the reply goes.
    pub(crate) source: SocketAddr,
    /// Who asks.
    pub(crate) asker: SocketAddr,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) place: Arc<Place>,
    pub(crate) came: Instant,
    /// Its place in the queue.
    pub(crate) share: Option<Share>,
}

impl Outlet {
    pub(crate) fn new(socket: Option<UdpSocket>) -> Self {
        Self(RwLock::new(socket))
    }

    fn send(&self, message: &[u8], to: SocketAddr) {
        let socket = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if message.is_empty() {
            return;
        }
        if let Some(Err(error)) = socket.as_ref().map(|socket| socket.send_to(message, to)) {
            debug!(asker = %to, "send a DNS reply: {error}");
        }
    }

    pub(crate) fn close(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Takes what the loop hands over, each message in a task of its own.
pub(crate) async fn slow_way(handler: Handler, mut waiting: mpsc::Receiver<Job>) {
    while let Some(job) = waiting.recv().await {
        let handler = handler.clone();
        tokio::spawn(async move {
            // Not taken apart: a question that waits would have each part twice.
            let mut job = job;
            let (reply, origin) = match handler.decide(&job.message, job.asker, Transport::Udp) {
                Outcome::Reply(reply) => {
                    let origin = telemetry::own(&reply);
                    (reply, origin)
                }
                Outcome::Shed(reply) => {
                    job.place.shed(&handler.view());
                    (reply, Origin::Nobody)
                }
                Outcome::Forward(forwarding) => {
                    job.share = None;
                    handler.finish(&job.message, job.asker, Transport::Udp, forwarding).await
                }
            };
            let (asker, transport) = (job.asker.ip(), Transport::Udp);
            let replied = Replied { question: &job.message, reply: &reply, asker, origin, transport, came: job.came };
            job.place.replied(&handler.view(), replied);
            job.outlet.send(&reply, job.source);
        });
    }
}
