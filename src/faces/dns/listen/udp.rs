//! The UDP loop: one thread that receives questions in batches from the sockets of all gateways. It answers questions
//! about local names from the snapshot and passes the rest to the slow path. It blocks only in the poller: never on an
//! upstream, a task, a log or a contended lock.
//!
//! The thread serves the sockets in turn, one batch each. A gateway has several sockets, its shards, and the kernel
//! assigns clients to shards (`kernel::dns::shards`). So a flood delays other gateways and other shards by one batch
//! per turn and costs them no question.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error};

use super::admission::{Admission, TOTAL};
use super::jobs::{Job, ReplySocket, take_jobs};
use super::load_shedding::LoadShedding;
use super::pauses::Pauses;
use super::quarantine::Quarantine;
use crate::base::monotonic;
use crate::engine::listener::{BATCH, Batch, Poller, Precedence, WOKEN, Waker, backlog, steer};
use crate::engine::telemetry::meter::Unanswered;
use crate::faces::dns::answer::fast_path;
use crate::faces::dns::answer::fast_path::Done;
use crate::faces::dns::answer::packet_cache::PacketCache;
use crate::faces::dns::answer::slow_path::Handler;
use crate::faces::dns::message::origin::Origin;
use crate::faces::dns::message::wire::Transport;
use crate::faces::dns::telemetry::Listener;

/// When the poller has reported a socket, the loop reads it up to this many times without polling again, as long as
/// each batch has more than one question but is not full.
const LOOKS: u32 = 8;
/// After this many consecutive errors the loop closes a socket.
const ERRORS_MAX: u32 = 1000;

/// The handle of the loop. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct UdpLoop {
    sender: Sender<Order>,
    waker: Waker,
    next: u64,
}

/// The sockets of one address.
#[derive(Debug)]
pub(crate) struct Serving {
    keys: Range<u64>,
    reply_socket: Arc<ReplySocket>,
}

enum Order {
    Serve(Vec<(u64, Socket)>),
    Close(Range<u64>, oneshot::Sender<()>),
    /// Acknowledge this order.
    Answer(oneshot::Sender<()>),
}

struct Socket {
    socket: UdpSocket,
    /// The keys of all shards of the gateway, including this one. The last is the quarantine shard.
    shards: Range<u64>,
    reply_socket: Arc<ReplySocket>,
    listener: Arc<Listener>,
    errors: u32,
    shedding: LoadShedding,
    /// The kernel's last count of dropped questions, and how many of them telemetry has not counted yet.
    dropped: u32,
    lost: u32,
}

impl UdpLoop {
    /// Starts the thread and the task of the slow path. The receiver completes when the thread ends.
    pub(crate) fn start(handler: &Handler) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let poller = Poller::new()?;
        let waker = poller.waker();
        let (sender, receiver) = channel();
        let (jobs, waiting) = mpsc::channel(TOTAL);
        let (alive, ended) = oneshot::channel();
        let worker = Worker {
            handler: handler.clone(),
            poller,
            receiver,
            jobs,
            admission: Admission::new(),
            sockets: HashMap::new(),
            quarantine: HashMap::new(),
            pauses: Pauses::default(),
            packet_cache: PacketCache::new(),
        };
        tokio::spawn(take_jobs(handler.clone(), waiting));
        let runtime = Handle::current();
        std::thread::Builder::new().name("dns".into()).spawn(move || {
            // It shares the clock of the tasks (`base::monotonic`).
            let _clock = runtime.enter();
            let _alive: oneshot::Sender<()> = alive;
            // Every client waits while this thread waits for a CPU.
            let (precedence, claimed) = Precedence::claim();
            if let Err(error) = claimed {
                debug!("cannot raise the priority of the name service: {error}");
            }
            if let Err(error) = worker.run(precedence) {
                error!("wait for DNS queries: {error}");
            }
        })?;
        Ok((Self { sender, waker, next: 0 }, ended))
    }

    /// Starts to serve non-blocking sockets at one address: a single one, or shards of which the last is the quarantine
    /// shard.
    pub(crate) fn serve(&mut self, sockets: Vec<UdpSocket>, listener: &Arc<Listener>) -> io::Result<Serving> {
        let reply_socket = sockets.first().map(UdpSocket::try_clone).transpose()?;
        let reply_socket = Arc::new(ReplySocket::new(reply_socket));
        let keys = self.next..self.next + sockets.len() as u64;
        self.next = keys.end;
        let served = |socket| Socket {
            socket,
            shards: keys.clone(),
            reply_socket: reply_socket.clone(),
            listener: listener.clone(),
            errors: 0,
            shedding: LoadShedding::default(),
            dropped: 0,
            lost: 0,
        };
        self.order(Order::Serve(keys.clone().zip(sockets.into_iter().map(served)).collect()));
        Ok(Serving { keys, reply_socket })
    }

    /// Returns once every descriptor of the sockets is closed.
    pub(crate) async fn close(&self, serving: Serving) {
        let (done, closed) = oneshot::channel();
        self.order(Order::Close(serving.keys, done));
        // An error means that the thread has ended, which closed its sockets.
        let _ = closed.await;
        serving.reply_socket.close();
    }

    /// Returns once the thread has processed all orders that were sent before.
    pub(crate) async fn is_alive(&self) {
        let (done, answered) = oneshot::channel();
        self.order(Order::Answer(done));
        let _ = answered.await;
    }

    fn order(&self, order: Order) {
        // Fails if the thread has ended, which its receiver reports.
        let _ = self.sender.send(order);
        self.waker.wake();
    }
}

impl Drop for UdpLoop {
    fn drop(&mut self) {
        let (sender, _) = channel();
        // The thread ends when the last sender of orders is dropped.
        drop(std::mem::replace(&mut self.sender, sender));
        self.waker.wake();
    }
}

struct Worker {
    handler: Handler,
    poller: Poller,
    receiver: Receiver<Order>,
    jobs: mpsc::Sender<Job>,
    admission: Arc<Admission>,
    sockets: HashMap<u64, Socket>,
    /// The quarantine of each address that has one, by the key of its quarantine shard.
    quarantine: HashMap<u64, Quarantine>,
    pauses: Pauses,
    packet_cache: PacketCache,
}

impl Worker {
    fn run(mut self, mut precedence: Precedence) -> io::Result<()> {
        let mut batch = Batch::new();
        let mut ready = Vec::new();
        loop {
            precedence.update();
            ready.clear();
            ready.extend(self.poller.wait(self.pauses.patience())?);
            self.wake()?;
            if ready.contains(&WOKEN) && !self.obey()? {
                return Ok(());
            }
            for _ in 0..LOOKS {
                ready.retain(|key| *key != WOKEN && self.serve(*key, &mut batch));
                if ready.is_empty() {
                    break;
                }
            }
        }
    }

    /// Resumes the sockets whose pauses have ended.
    fn wake(&mut self) -> io::Result<()> {
        if self.pauses.any() {
            let now = monotonic::now();
            while let Some(key) = self.pauses.ended(now) {
                self.sockets.get(&key).map_or(Ok(()), |socket| self.poller.resume(&socket.socket, key))?;
            }
        }
        Ok(())
    }

    /// Carries out the pending orders. Returns false if the handle was dropped.
    fn obey(&mut self) -> io::Result<bool> {
        loop {
            match self.receiver.try_recv() {
                Ok(Order::Serve(sockets)) => {
                    for (key, socket) in sockets {
                        self.poller.add(&socket.socket, key)?;
                        self.sockets.insert(key, socket);
                    }
                }
                Ok(Order::Close(keys, done)) => {
                    for key in keys {
                        self.close(key)?;
                    }
                    // The requester may have stopped waiting.
                    let _ = done.send(());
                }
                Ok(Order::Answer(done)) => {
                    let _ = done.send(());
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(true),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    fn close(&mut self, key: u64) -> io::Result<()> {
        self.quarantine.remove(&key);
        self.sockets.remove(&key).map_or(Ok(()), |socket| self.poller.remove(&socket.socket))
    }

    /// Receives a batch. Returns its number of questions, 0 if none could be received.
    fn receive(&mut self, key: u64, batch: &mut Batch) -> usize {
        let Some(socket) = self.sockets.get_mut(&key) else { return 0 };
        match batch.receive(&socket.socket) {
            Ok(count) => {
                socket.errors = 0;
                if (count == BATCH || socket.shedding.is_on())
                    && let Ok(backlog) = backlog(&socket.socket)
                {
                    socket.shedding.filled(backlog.waits, backlog.may);
                    socket.lost += backlog.dropped.wrapping_sub(socket.dropped);
                    socket.dropped = backlog.dropped;
                }
                count
            }
            Err(error) => {
                socket.errors += 1;
                if socket.errors == ERRORS_MAX {
                    error!("receive DNS queries: {error}: a gateway's names do not resolve until netd is restarted");
                    // An error means that the poller does not watch the socket any more, which is the goal.
                    let _ = self.close(key);
                }
                0
            }
        }
    }

    /// Serves one batch. Returns whether to read the socket again at once: the batch had more than one question and was
    /// not full.
    fn serve(&mut self, key: u64, batch: &mut Batch) -> bool {
        let count = self.receive(key, batch);
        let Some(socket) = self.sockets.get_mut(&key).filter(|_| count > 0) else { return false };
        // Loaded after the questions arrived: a client that asks after a command has completed gets its outcome.
        let snapshot = self.handler.view();
        self.packet_cache.of(&snapshot, self.handler.forwarder().beside());
        let (handler, admission, jobs, packet_cache) =
            (&self.handler, &self.admission, &self.jobs, &mut self.packet_cache);
        let (reply_socket, listener, shedding) = (&socket.reply_socket, &socket.listener, &mut socket.shedding);
        // Do not shed in the quarantine shard or within a container: no other client uses the socket, so pausing it is
        // enough.
        let (full, quarantine) = (shedding.is_on(), key + 1 == socket.shards.end);
        let mut batch_telemetry = listener.batch(&snapshot);
        batch_telemetry.lost(std::mem::take(&mut socket.lost));
        batch.answer(|message, source, out| {
            let client = listener.client(source);
            if full && !quarantine && !shedding.admits(listener.share(&snapshot, client.ip())) {
                batch_telemetry.unanswered(Unanswered::Flood);
                return 0;
            }
            if let Some(length) = packet_cache.find(message, client.ip(), out) {
                batch_telemetry.replied(message, &out[..length], client, Origin::Local);
                return length;
            }
            match handler.fast_path(&snapshot, message, client, Transport::Udp, out) {
                Done::Replied(length, origin) => {
                    // Cached answers of upstreams expire, so that they do not belong into the packet cache.
                    if origin == Origin::Local {
                        packet_cache.keep(message, client.ip(), &out[..length]);
                    }
                    batch_telemetry.replied(message, &out[..length], client, origin);
                    length
                }
                Done::Rotated(length) => {
                    batch_telemetry.replied(message, &out[..length], client, Origin::Local);
                    length
                }
                Done::Ignored => {
                    batch_telemetry.unanswered(Unanswered::NoQuestion);
                    0
                }
                Done::Left => {
                    let job = admission.take(client.ip(), message.len()).map(|permit| Job {
                        message: message.to_vec(),
                        source,
                        client,
                        reply_socket: reply_socket.clone(),
                        listener: listener.clone(),
                        came: batch_telemetry.came(),
                        permit: Some(permit),
                    });
                    if job.is_some_and(|job| jobs.try_send(job).is_ok()) {
                        return 0;
                    }
                    let length = fast_path::fail(message, Transport::Udp, out);
                    batch_telemetry.shed(message, &out[..length], client);
                    length
                }
            }
        });
        let came = batch_telemetry.came();
        batch_telemetry.ready();
        // The client repeats a question whose reply the kernel does not accept.
        batch.send(&socket.socket);
        self.after(key, came, full || quarantine);
        !full && (2..BATCH).contains(&count)
    }

    /// Steers clients and pauses the socket after a batch that arrived at `came`, if `floods`: a client floods, or this
    /// is the quarantine shard.
    fn after(&mut self, key: u64, came: Instant, floods: bool) {
        if !floods {
            return;
        }
        self.steer(key, came);
        let Some(socket) = self.sockets.get(&key) else { return };
        let rests = socket.shedding.is_on() && key + 1 == socket.shards.end;
        if rests && self.poller.pause(&socket.socket, key).is_ok() {
            self.pauses.begin(key, monotonic::now());
        }
    }

    /// Steers a client that floods a shard to the quarantine shard, and all of them back when the flood is over.
    fn steer(&mut self, key: u64, now: Instant) {
        let Some(socket) = self.sockets.get_mut(&key) else { return };
        let (by_address, last) = (socket.shards.end - socket.shards.start - 1, socket.shards.end - 1);
        let flooding = socket.shedding.flooding().filter(|client| !client.is_unspecified());
        let changed = if key == last {
            self.quarantine.get_mut(&last).is_some_and(|quarantine| quarantine.update(socket.shedding.is_on(), now))
        } else {
            flooding.is_some_and(|client| self.quarantine.entry(last).or_default().floods(client, now))
        };
        if changed {
            let clients = self.quarantine.get(&last).map_or(&[][..], Quarantine::clients);
            match steer(&socket.socket, by_address as usize, clients) {
                Ok(()) => debug!(?clients, "steered flooding clients to the quarantine shard"),
                // Without steering the shards still shed the excess questions.
                Err(error) => debug!("cannot steer clients to the quarantine shard: {error}"),
            }
        }
    }
}
