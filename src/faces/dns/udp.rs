//! The UDP loop: one thread that takes questions in batches from the sockets of all gateways, answers what is ours from
//! the snapshot, and hands the rest to the slow way. It waits for questions and for nothing else: no upstream, no task,
//! no log, no lock that somebody holds.
//!
//! Each socket that has questions gets one batch, then it is the next one's turn: a flood at one gateway does not keep
//! the others waiting.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error};

use super::handler::{Handler, Outcome};
use super::origin::Origin;
use super::overload::Overload;
use super::queue::{Share, Shares, TOTAL};
use super::quick::{self, Done};
use super::recent::Recent;
use super::watch::{self, Place, Replied};
use super::wire::Transport;
use crate::engine::listener::{BATCH, Batch, Poller, WOKEN, Waker, backlog, run_soon};
use crate::engine::seen::meter::Unanswered;

/// Once the poller has told of a socket, it is looked at again so many times without asking the poller, as long as
/// questions come in faster than they can be answered but do not fill a batch.
const LOOKS: u32 = 8;
/// After so many errors in a row a socket is given up.
const ERRORS_MAX: u32 = 1000;

/// The loop's handle. The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct UdpLoop {
    orders: Sender<Order>,
    waker: Waker,
    next: u64,
}

/// A socket that is being served.
#[derive(Debug)]
pub(super) struct Serving {
    key: u64,
    outlet: Arc<Outlet>,
}

/// The slow way's own descriptor of a socket; `None` once it is closed.
#[derive(Debug)]
struct Outlet(RwLock<Option<UdpSocket>>);

enum Order {
    Serve(u64, Socket),
    Close(u64, oneshot::Sender<()>),
    /// Say that it was read.
    Answer(oneshot::Sender<()>),
}

struct Socket {
    socket: UdpSocket,
    outlet: Arc<Outlet>,
    place: Arc<Place>,
    errors: u32,
    overload: Overload,
}

/// A message for the slow way.
struct Job {
    message: Vec<u8>,
    /// Where the reply goes.
    source: SocketAddr,
    /// Who asks.
    asker: SocketAddr,
    outlet: Arc<Outlet>,
    place: Arc<Place>,
    came: Instant,
    /// Its place in the queue.
    share: Option<Share>,
}

impl UdpLoop {
    /// Starts the thread, and the task that takes what it hands over. The receiver ends with the thread.
    pub(super) fn start(handler: &Handler) -> io::Result<(Self, oneshot::Receiver<()>)> {
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
            shares: Shares::new(),
            sockets: HashMap::new(),
            recent: Recent::new(),
        };
        tokio::spawn(slow_way(handler.clone(), waiting));
        std::thread::Builder::new().name("dns".into()).spawn(move || {
            let _alive: oneshot::Sender<()> = alive;
            // While it waits for a processor, a flood fills the sockets' queues, and the kernel drops what comes then, of
            // anybody.
            if let Err(error) = run_soon() {
                debug!("let the name service run before others: {error}");
            }
            if let Err(error) = worker.run() {
                error!("wait for DNS queries: {error}");
            }
        })?;
        Ok((Self { orders, waker, next: 0 }, ended))
    }

    /// Serves a non-blocking socket from now on.
    pub(super) fn serve(&mut self, socket: UdpSocket, place: Arc<Place>) -> io::Result<Serving> {
        let outlet = Arc::new(Outlet(RwLock::new(Some(socket.try_clone()?))));
        let key = self.next;
        self.next += 1;
        self.order(Order::Serve(
            key,
            Socket { socket, outlet: outlet.clone(), place, errors: 0, overload: Overload::default() },
        ));
        Ok(Serving { key, outlet })
    }

    /// Returns when every descriptor of the socket is closed.
    pub(super) async fn close(&self, serving: Serving) {
        let (done, closed) = oneshot::channel();
        self.order(Order::Close(serving.key, done));
        // An error means that the thread has ended, and its sockets with it.
        let _ = closed.await;
        serving.outlet.close();
    }

    /// Returns when the thread has looked at what was given to it before.
    pub(super) async fn is_alive(&self) {
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

impl Outlet {
    fn send(&self, message: &[u8], to: SocketAddr) {
        let socket = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if message.is_empty() {
            return;
        }
        if let Some(Err(error)) = socket.as_ref().map(|socket| socket.send_to(message, to)) {
            debug!(asker = %to, "send a DNS reply: {error}");
        }
    }

    fn close(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

struct Worker {
    handler: Handler,
    poller: Poller,
    told: Receiver<Order>,
    jobs: mpsc::Sender<Job>,
    shares: Arc<Shares>,
    sockets: HashMap<u64, Socket>,
    recent: Recent,
}

impl Worker {
    fn run(mut self) -> io::Result<()> {
        let mut batch = Batch::new();
        let mut ready = Vec::new();
        loop {
            ready.clear();
            ready.extend(self.poller.wait()?);
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

    /// Does what it was told; false when nobody can tell it anything any more.
    fn obey(&mut self) -> io::Result<bool> {
        loop {
            match self.told.try_recv() {
                Ok(Order::Serve(key, socket)) => {
                    self.poller.add(&socket.socket, key)?;
                    self.sockets.insert(key, socket);
                }
                Ok(Order::Close(key, done)) => {
                    self.close(key)?;
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
        self.sockets.remove(&key).map_or(Ok(()), |socket| self.poller.remove(&socket.socket))
    }

    /// Takes a batch; how many questions it has, 0 where none can be taken.
    fn receive(&mut self, key: u64, batch: &mut Batch) -> usize {
        let Some(socket) = self.sockets.get_mut(&key) else { return 0 };
        match batch.receive(&socket.socket) {
            Ok(count) => {
                socket.errors = 0;
                if (count == BATCH || socket.overload.is_on())
                    && let Ok((bytes, of)) = backlog(&socket.socket)
                {
                    socket.overload.filled(bytes, of);
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
        self.recent.of(&snapshot);
        let (handler, shares, jobs, recent) = (&self.handler, &self.shares, &self.jobs, &mut self.recent);
        let (outlet, place, overload) = (&socket.outlet, &socket.place, &mut socket.overload);
        let mut watched = place.batch(&snapshot);
        batch.answer(|message, source, out| {
            let asker = place.asker(source);
            if !overload.admits(asker.ip()) {
                watched.unanswered(Unanswered::Flood);
                return 0;
            }
            if let Some(length) = recent.find(message, asker.ip(), out) {
                watched.replied(message, &out[..length], asker, Origin::Local);
                return length;
            }
            match handler.quick(&snapshot, message, asker, Transport::Udp, out) {
                Done::Replied(length, origin) => {
                    // What is kept of upstreams' answers grows old.
                    if origin == Origin::Local {
                        recent.keep(message, asker.ip(), &out[..length]);
                    }
                    watched.replied(message, &out[..length], asker, origin);
                    length
                }
                Done::Rotated(length) => {
                    watched.replied(message, &out[..length], asker, Origin::Local);
                    length
                }
                Done::Ignored => {
                    watched.unanswered(Unanswered::NoQuestion);
                    0
                }
                Done::Left => {
                    let job = shares.take(asker.ip(), message.len()).map(|share| Job {
                        message: message.to_vec(),
                        source,
                        asker,
                        outlet: outlet.clone(),
                        place: place.clone(),
                        came: watched.came(),
                        share: Some(share),
                    });
                    if job.is_some_and(|job| jobs.try_send(job).is_ok()) {
                        return 0;
                    }
                    let length = quick::fail(message, Transport::Udp, out);
                    watched.shed(message, &out[..length], asker);
                    length
                }
            }
        });
        watched.ready();
        // What the kernel does not take is asked for again.
        batch.send(&socket.socket);
        (2..BATCH).contains(&count)
    }
}

/// Takes what the loop hands over, each message in a task of its own.
async fn slow_way(handler: Handler, mut waiting: mpsc::Receiver<Job>) {
    while let Some(job) = waiting.recv().await {
        let handler = handler.clone();
        tokio::spawn(async move {
            // Not taken apart: a question that waits would have each part twice.
            let mut job = job;
            let (reply, origin) = match handler.decide(&job.message, job.asker, Transport::Udp) {
                Outcome::Reply(reply) => {
                    let origin = watch::own(&reply);
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
