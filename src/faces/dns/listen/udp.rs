//! The UDP loop: one thread that takes questions in batches from the sockets of all gateways, answers what is ours from
//! the snapshot, and hands the rest to the slow path. It waits for questions and for nothing else: no upstream, no task,
//! no log, no lock that somebody holds.
//!
//! Each socket that has questions gets one batch, then it is the next one's turn. A gateway has several, its shards, among
//! which the kernel spreads clients (`kernel::dns::shards`): a flood costs other gateways and other shards a batch's time in each
//! turn, and no question.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

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

/// Once the poller has told of a socket, it is looked at again so many times without asking the poller, as long as
/// questions come in faster than they can be answered but do not fill a batch.
const LOOKS: u32 = 8;
/// After so many errors in a row a socket is given up.
const ERRORS_MAX: u32 = 1000;

/// The loop's handle. The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct UdpLoop {
    orders: Sender<Order>,
    waker: Waker,
    next: u64,
}

/// Sockets that are being served.
#[derive(Debug)]
pub(crate) struct Serving {
    keys: Range<u64>,
    reply_socket: Arc<ReplySocket>,
}

enum Order {
    Serve(Vec<(u64, Socket)>),
    Close(Range<u64>, oneshot::Sender<()>),
    /// Say that it was read.
    Answer(oneshot::Sender<()>),
}

struct Socket {
    socket: UdpSocket,
    /// The shards that it is one of; the last is the one quarantine.
    shards: Range<u64>,
    reply_socket: Arc<ReplySocket>,
    listener: Arc<Listener>,
    errors: u32,
    shedding: LoadShedding,
    /// What the kernel said last of questions that it has dropped, and how many of them are still to be counted.
    dropped: u32,
    lost: u32,
}

impl UdpLoop {
    /// Starts the thread, and the task that takes what it hands over. The receiver ends with the thread.
    pub(crate) fn start(handler: &Handler) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let poller = Poller::new()?;
        let waker = poller.waker();
        let (orders, told) = channel();
        let (jobs, waiting) = mpsc::channel(TOTAL);
        let (alive, ended) = oneshot::channel();
        let worker = Worker {
            handler: handler.clone(),
            poller,
            told,
            jobs,
            admission: Admission::new(),
            sockets: HashMap::new(),
            quarantine: HashMap::new(),
            pauses: Pauses::default(),
            packet_cache: PacketCache::new(),
        };
        tokio::spawn(take_jobs(handler.clone(), waiting));
        std::thread::Builder::new().name("dns".into()).spawn(move || {
            let _alive: oneshot::Sender<()> = alive;
            // Everybody who asks waits for as long as it waits for a processor.
            let (precedence, claimed) = Precedence::claim();
            if let Err(error) = claimed {
                debug!("let the name service run before others: {error}");
            }
            if let Err(error) = worker.run(precedence) {
                error!("wait for DNS queries: {error}");
            }
        })?;
        Ok((Self { orders, waker, next: 0 }, ended))
    }

    /// Serves non-blocking sockets at one address from now on: one, or shards, of which the last is the one quarantine.
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

    /// Returns when every descriptor of the sockets is closed.
    pub(crate) async fn close(&self, serving: Serving) {
        let (done, closed) = oneshot::channel();
        self.order(Order::Close(serving.keys, done));
        // An error means that the thread has ended, and its sockets with it.
        let _ = closed.await;
        serving.reply_socket.close();
    }

    /// Returns when the thread has looked at what was given to it before.
    pub(crate) async fn is_alive(&self) {
        let (done, answered) = oneshot::channel();
        self.order(Order::Answer(done));
        let _ = answered.await;
    }

    fn order(&self, order: Order) {
        // Fails when the thread has ended, which its receiver tells.
        let _ = self.orders.send(order);
        self.waker.wake();
    }
}

impl Drop for UdpLoop {
    fn drop(&mut self) {
        let (orders, _) = channel();
        // The thread ends when nobody can give it orders any more.
        drop(std::mem::replace(&mut self.orders, orders));
        self.waker.wake();
    }
}

struct Worker {
    handler: Handler,
    poller: Poller,
    told: Receiver<Order>,
    jobs: mpsc::Sender<Job>,
    admission: Arc<Admission>,
    sockets: HashMap<u64, Socket>,
    /// Of each address with shards, under the key of the shard quarantine.
    quarantine: HashMap<u64, Quarantine>,
    pauses: Pauses,
    packet_cache: PacketCache,
}

impl Worker {
    fn run(mut self, mut precedence: Precedence) -> io::Result<()> {
        let mut batch = Batch::new();
        let mut ready = Vec::new();
        loop {
            precedence.look();
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

    /// Ends the rest of the sockets that have rested for long enough.
    fn wake(&mut self) -> io::Result<()> {
        if self.pauses.any() {
            let now = monotonic::now();
            while let Some(key) = self.pauses.ended(now) {
                self.sockets.get(&key).map_or(Ok(()), |socket| self.poller.resume(&socket.socket, key))?;
            }
        }
        Ok(())
    }

    /// Does what it was told; false when nobody can tell it anything any more.
    fn obey(&mut self) -> io::Result<bool> {
        loop {
            match self.told.try_recv() {
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
                    // Nobody may wait for it any more.
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

    /// Takes a batch; how many questions it has, 0 where none can be taken.
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
                    // An error means that it is not waited for any more, which is what is wanted.
                    let _ = self.close(key);
                }
                0
            }
        }
    }

    /// One batch. Whether another look is worth it: more than one question came, but not more than fit.
    fn serve(&mut self, key: u64, batch: &mut Batch) -> bool {
        let count = self.receive(key, batch);
        let Some(socket) = self.sockets.get_mut(&key).filter(|_| count > 0) else { return false };
        // Loaded after the questions came: whoever asks after a command was answered gets its outcome.
        let snapshot = self.handler.view();
        self.packet_cache.of(&snapshot);
        let (handler, admission, jobs, packet_cache) =
            (&self.handler, &self.admission, &self.jobs, &mut self.packet_cache);
        let (reply_socket, listener, shedding) = (&socket.reply_socket, &socket.listener, &mut socket.shedding);
        // In the shard quarantine, and within a container, nobody else asks: that the socket rests is enough.
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
                    // What is kept of upstreams' answers grows old.
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
        // What the kernel does not take is asked for again.
        batch.send(&socket.socket);
        self.after(key, came, full || quarantine);
        !full && (2..BATCH).contains(&count)
    }

    /// What a batch that came at that time leads to, where somebody floods or is quarantine.
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

    /// Leads who floods a shard to the shard quarantine, and back when it is calm there.
    fn steer(&mut self, key: u64, now: Instant) {
        let Some(socket) = self.sockets.get_mut(&key) else { return };
        let (by_address, last) = (socket.shards.end - socket.shards.start - 1, socket.shards.end - 1);
        let flooding = socket.shedding.flooding().filter(|client| !client.is_unspecified());
        let changed = if key == last {
            self.quarantine.get_mut(&last).is_some_and(|quarantine| quarantine.looked(socket.shedding.is_on(), now))
        } else {
            flooding.is_some_and(|client| self.quarantine.entry(last).or_default().floods(client, now))
        };
        if changed {
            let clients = self.quarantine.get(&last).map_or(&[][..], Quarantine::clients);
            match steer(&socket.socket, by_address as usize, clients) {
                Ok(()) => debug!(?clients, "led quarantine, because they flood"),
                // Their shards shed what they ask too much, all the same.
                Err(error) => debug!("lead clients quarantine: {error}"),
            }
        }
    }
}
