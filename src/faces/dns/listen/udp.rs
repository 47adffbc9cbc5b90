//! The UDP loop: one thread that takes questions in batches from the sockets of all gateways, answers what is ours from
//! the snapshot, and hands the rest to the slow way. It waits for questions and for nothing else: no upstream, no task,
//! no log, no lock that somebody holds.
//!
//! Each socket that has questions gets one batch, then it is the next one's turn. A gateway has several, its lanes, among
//! which the kernel spreads askers (`kernel::dns::shards`): a flood costs other gateways and other lanes a batch's time in each
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

use super::admission::{Shares, TOTAL};
use super::jobs::{Job, Outlet, slow_way};
use super::load_shedding::Overload;
use super::pauses::Resting;
use super::quarantine::Apart;
use crate::base::monotonic;
use crate::engine::listener::{BATCH, Batch, Poller, Precedence, WOKEN, Waker, backlog, steer};
use crate::engine::telemetry::meter::Unanswered;
use crate::faces::dns::answer::fast_path;
use crate::faces::dns::answer::fast_path::Done;
use crate::faces::dns::answer::packet_cache::Recent;
use crate::faces::dns::answer::slow_path::Handler;
use crate::faces::dns::message::origin::Origin;
use crate::faces::dns::message::wire::Transport;
use crate::faces::dns::telemetry::Place;

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
    outlet: Arc<Outlet>,
}

enum Order {
    Serve(Vec<(u64, Socket)>),
    Close(Range<u64>, oneshot::Sender<()>),
    /// Say that it was read.
    Answer(oneshot::Sender<()>),
}

struct Socket {
    socket: UdpSocket,
    /// The lanes that it is one of; the last is the one apart.
    lanes: Range<u64>,
    outlet: Arc<Outlet>,
    place: Arc<Place>,
    errors: u32,
    overload: Overload,
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
            shares: Shares::new(),
            sockets: HashMap::new(),
            apart: HashMap::new(),
            resting: Resting::default(),
            recent: Recent::new(),
        };
        tokio::spawn(slow_way(handler.clone(), waiting));
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

    /// Serves non-blocking sockets at one address from now on: one, or lanes, of which the last is the one apart.
    pub(crate) fn serve(&mut self, sockets: Vec<UdpSocket>, place: &Arc<Place>) -> io::Result<Serving> {
        let outlet = sockets.first().map(UdpSocket::try_clone).transpose()?;
        let outlet = Arc::new(Outlet::new(outlet));
        let keys = self.next..self.next + sockets.len() as u64;
        self.next = keys.end;
        let served = |socket| Socket {
            socket,
            lanes: keys.clone(),
            outlet: outlet.clone(),
            place: place.clone(),
            errors: 0,
            overload: Overload::default(),
            dropped: 0,
            lost: 0,
        };
        self.order(Order::Serve(keys.clone().zip(sockets.into_iter().map(served)).collect()));
        Ok(Serving { keys, outlet })
    }

    /// Returns when every descriptor of the sockets is closed.
    pub(crate) async fn close(&self, serving: Serving) {
        let (done, closed) = oneshot::channel();
        self.order(Order::Close(serving.keys, done));
        // An error means that the thread has ended, and its sockets with it.
        let _ = closed.await;
        serving.outlet.close();
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
    shares: Arc<Shares>,
    sockets: HashMap<u64, Socket>,
    /// Of each address with lanes, under the key of the lane apart.
    apart: HashMap<u64, Apart>,
    resting: Resting,
    recent: Recent,
}

impl Worker {
    fn run(mut self, mut precedence: Precedence) -> io::Result<()> {
        let mut batch = Batch::new();
        let mut ready = Vec::new();
        loop {
            precedence.look();
            ready.clear();
            ready.extend(self.poller.wait(self.resting.patience())?);
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
        if self.resting.any() {
            let now = monotonic::now();
            while let Some(key) = self.resting.ended(now) {
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
        self.apart.remove(&key);
        self.sockets.remove(&key).map_or(Ok(()), |socket| self.poller.remove(&socket.socket))
    }

    /// Takes a batch; how many questions it has, 0 where none can be taken.
    fn receive(&mut self, key: u64, batch: &mut Batch) -> usize {
        let Some(socket) = self.sockets.get_mut(&key) else { return 0 };
        match batch.receive(&socket.socket) {
            Ok(count) => {
                socket.errors = 0;
                if (count == BATCH || socket.overload.is_on())
                    && let Ok(backlog) = backlog(&socket.socket)
                {
                    socket.overload.filled(backlog.waits, backlog.may);
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
        self.recent.of(&snapshot);
        let (handler, shares, jobs, recent) = (&self.handler, &self.shares, &self.jobs, &mut self.recent);
        let (outlet, place, overload) = (&socket.outlet, &socket.place, &mut socket.overload);
        // In the lane apart, and within a container, nobody else asks: that the socket rests is enough.
        let (full, apart) = (overload.is_on(), key + 1 == socket.lanes.end);
        let mut watched = place.batch(&snapshot);
        watched.lost(std::mem::take(&mut socket.lost));
        batch.answer(|message, source, out| {
            let asker = place.asker(source);
            if full && !apart && !overload.admits(place.share(&snapshot, asker.ip())) {
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
                    let length = fast_path::fail(message, Transport::Udp, out);
                    watched.shed(message, &out[..length], asker);
                    length
                }
            }
        });
        let came = watched.came();
        watched.ready();
        // What the kernel does not take is asked for again.
        batch.send(&socket.socket);
        self.after(key, came, full || apart);
        !full && (2..BATCH).contains(&count)
    }

    /// What a batch that came at that time leads to, where somebody floods or is apart.
    fn after(&mut self, key: u64, came: Instant, floods: bool) {
        if !floods {
            return;
        }
        self.steer(key, came);
        let Some(socket) = self.sockets.get(&key) else { return };
        let rests = socket.overload.is_on() && key + 1 == socket.lanes.end;
        if rests && self.poller.pause(&socket.socket, key).is_ok() {
            self.resting.begin(key, monotonic::now());
        }
    }

    /// Leads who floods a lane to the lane apart, and back when it is calm there.
    fn steer(&mut self, key: u64, now: Instant) {
        let Some(socket) = self.sockets.get_mut(&key) else { return };
        let (by_address, last) = (socket.lanes.end - socket.lanes.start - 1, socket.lanes.end - 1);
        let flooding = socket.overload.flooding().filter(|asker| !asker.is_unspecified());
        let changed = if key == last {
            self.apart.get_mut(&last).is_some_and(|apart| apart.looked(socket.overload.is_on(), now))
        } else {
            flooding.is_some_and(|asker| self.apart.entry(last).or_default().floods(asker, now))
        };
        if changed {
            let askers = self.apart.get(&last).map_or(&[][..], Apart::askers);
            match steer(&socket.socket, by_address as usize, askers) {
                Ok(()) => debug!(?askers, "led apart, because they flood"),
                // Their lanes shed what they ask too much, all the same.
                Err(error) => debug!("lead askers apart: {error}"),
            }
        }
    }
}
