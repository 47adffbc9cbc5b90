//! The slow path of UDP: tasks answer or forward the messages that the loop does not answer itself.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::debug;

use super::admission::Permit;
use crate::faces::dns::answer::slow_path::{Handler, Outcome};
use crate::faces::dns::message::origin::Origin;
use crate::faces::dns::message::wire::Transport;
use crate::faces::dns::telemetry;
use crate::faces::dns::telemetry::{Listener, Replied};

/// The slow path's own descriptor for the sockets of one address. A client cannot tell from which of these sockets a
/// reply was sent. `None` once it is closed.
#[derive(Debug)]
pub(crate) struct ReplySocket(RwLock<Option<UdpSocket>>);

/// A message for the slow path.
pub(crate) struct Job {
    pub(crate) message: Vec<u8>,
    /// The address to send the reply to.
    pub(crate) source: SocketAddr,
    /// The client, which need not be the source address.
    pub(crate) client: SocketAddr,
    pub(crate) reply_socket: Arc<ReplySocket>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) came: Instant,
    /// The permit of the message in admission.
    pub(crate) permit: Option<Permit>,
}

impl ReplySocket {
    pub(crate) fn new(socket: Option<UdpSocket>) -> Self {
        Self(RwLock::new(socket))
    }

    fn send(&self, message: &[u8], to: SocketAddr) {
        let socket = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if message.is_empty() {
            return;
        }
        if let Some(Err(error)) = socket.as_ref().map(|socket| socket.send_to(message, to)) {
            debug!(client = %to, "send a DNS reply: {error}");
        }
    }

    pub(crate) fn close(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Receives messages from the loop and processes each in a task of its own.
pub(crate) async fn take_jobs(handler: Handler, mut waiting: mpsc::Receiver<Job>) {
    while let Some(job) = waiting.recv().await {
        let handler = handler.clone();
        tokio::spawn(async move {
            // Do not destructure the job: the future would store each of its fields twice.
            let mut job = job;
            let (reply, origin) = match handler.decide(&job.message, job.client, Transport::Udp) {
                Outcome::Reply(reply) => {
                    let origin = telemetry::own(&reply);
                    (reply, origin)
                }
                Outcome::Shed(reply) => {
                    job.listener.shed(&handler.view());
                    (reply, Origin::Nobody)
                }
                Outcome::Forward(forwarding) => {
                    job.permit = None;
                    handler.finish(&job.message, job.client, Transport::Udp, forwarding).await
                }
            };
            let (client, transport) = (job.client.ip(), Transport::Udp);
            let replied = Replied { question: &job.message, reply: &reply, client, origin, transport, came: job.came };
            job.listener.replied(&handler.view(), replied);
            job.reply_socket.send(&reply, job.source);
        });
    }
}
