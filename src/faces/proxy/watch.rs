//! Looks whether somebody listens at the ports of containers to which the proxy passes on, and tells the ports' tasks.
//!
//! Each container is looked at as its [`Schedule`] says, all its ports at once; many containers are spread ([`Pace`]).

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::schedule::{PORTS_MOST, Pace, Schedule};
use crate::base::monotonic;
use crate::engine::proxy::Way;
use crate::engine::proxy::listening::{Question, look};
use crate::model::endpoint::Netns;
use crate::model::host::backend::Backend;
use crate::model::ids::NetnsId;

/// Messages that are processed together.
const MESSAGES: usize = 256;

/// Whether somebody listens at a container's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nobody has looked yet.
    Unknown,
    /// Somebody, or it cannot be found out.
    Somebody,
    /// Nobody.
    Nobody,
}

/// A message to the watcher.
#[derive(Debug)]
enum Message {
    Watch { netns: Netns, port: Port },
    Refused(NetnsId),
    Moved(Netns),
}

/// A port to look at, until nobody receives what is seen.
#[derive(Debug)]
struct Port {
    backend: Backend,
    tell: watch::Sender<Seen>,
}

/// Where the ports' tasks reach the watcher. It ends with the last of these.
#[derive(Debug, Clone)]
pub(super) struct Watcher(mpsc::UnboundedSender<Message>);

/// A port that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    /// What was seen last; changed by each look, also to what it was before.
    pub(super) seen: watch::Receiver<Seen>,
    /// Who looks soon again if a connection is refused; nobody for a service, which has other members.
    watcher: Option<(NetnsId, Watcher)>,
}

impl Watcher {
    /// Starts it.
    pub(super) fn start() -> Self {
        // Unbounded: a message for each change of a port, and one each time that a port stops listening.
        let (sender, messages) = mpsc::unbounded_channel();
        tokio::spawn(run(messages));
        Self(sender)
    }

    /// Looks at a port from now on, at once for the first time.
    pub(super) fn watch(&self, netns: Netns, backend: Backend) -> Watched {
        let (tell, seen) = watch::channel(Seen::Unknown);
        let id = netns.id;
        self.send(Message::Watch { netns, port: Port { backend, tell } });
        Watched { seen, watcher: Some((id, self.clone())) }
    }

    /// The same namespace is at another path.
    pub(super) fn moved(&self, netns: Netns) {
        self.send(Message::Moved(netns));
    }

    fn send(&self, message: Message) {
        // It does not end before this sender is gone, except with the runtime.
        let _ = self.0.send(message);
    }
}

impl Watched {
    /// A port of a service: somebody is there while a member is used. Ends with the port.
    pub(super) fn of_service(mut way: Way) -> Self {
        let (tell, seen) = watch::channel(Seen::Unknown);
        tokio::spawn(async move {
            loop {
                let is_used = way.borrow_and_update().is_some();
                tell.send_replace(if is_used { Seen::Somebody } else { Seen::Nobody });
                tokio::select! {
                    changed = way.changed() => if changed.is_err() { return },
                    () = tell.closed() => return,
                }
            }
        });
        Self { seen, watcher: None }
    }

    /// Whether the port stops listening when a connection is refused, until [`Self::seen`] changes.
    pub(super) fn follows_refusals(&self) -> bool {
        self.watcher.is_some()
    }

    /// The container has refused a connection: looks soon again.
    pub(super) fn refused(&self) {
        if let Some((netns, watcher)) = &self.watcher {
            watcher.send(Message::Refused(*netns));
        }
    }
}

#[cfg(test)]
impl Watched {
    /// A port at which the test sees.
    pub(super) fn by_hand() -> (watch::Sender<Seen>, Self) {
        let (tell, seen) = watch::channel(Seen::Unknown);
        let netns = NetnsId { device: 0, inode: 0, cookie: None };
        (tell, Self { seen, watcher: Some((netns, Watcher(mpsc::unbounded_channel().0))) })
    }
}

/// A container with watched ports.
#[derive(Debug)]
struct Container {
    netns: Netns,
    ports: Vec<Port>,
    schedule: Schedule,
}

impl Container {
    fn question(&self) -> Question {
        let backends = self.ports.iter().map(|port| port.backend.clone()).collect();
        Question { netns: self.netns.clone(), backends }
    }

    /// Tells what was seen at each port; `None`: it cannot be found out.
    fn tell(&mut self, now: Duration, answer: Option<Vec<bool>>) {
        let (mut all, mut fewer) = (true, false);
        let mut listens = answer.map(Vec::into_iter);
        for port in &self.ports {
            let seen = match listens.as_mut().and_then(Iterator::next) {
                Some(false) => Seen::Nobody,
                Some(true) | None => Seen::Somebody,
            };
            all &= seen == Seen::Somebody;
            fewer |= port.tell.send_replace(seen) == Seen::Somebody && seen == Seen::Nobody;
        }
        self.schedule.looked(now, all, fewer);
    }
}

/// All that is watched.
#[derive(Debug)]
struct Watch {
    begin: Instant,
    containers: HashMap<NetnsId, Container>,
    pace: Pace,
    /// Whether it was logged that something could not be looked up.
    logged: bool,
}

async fn run(mut messages: mpsc::UnboundedReceiver<Message>) {
    let mut all = Watch { begin: monotonic::now(), containers: HashMap::new(), pace: Pace::default(), logged: false };
    let mut received = Vec::new();
    loop {
        let next = all.next().map(|next| all.begin + next);
        let due = async || match next {
            Some(next) => sleep_until(next.into()).await,
            None => pending().await,
        };
        tokio::select! {
            count = messages.recv_many(&mut received, MESSAGES) => {
                if count == 0 {
                    return;
                }
                received.drain(..).for_each(|message| all.receive(message));
            }
            () = due() => all.round().await,
        }
    }
}

impl Watch {
    fn now(&self) -> Duration {
        monotonic::now() - self.begin
    }

    fn receive(&mut self, message: Message) {
        let now = self.now();
        match message {
            Message::Watch { netns, port } => {
                let fresh = Container { netns: netns.clone(), ports: Vec::new(), schedule: Schedule::new(now) };
                let container = self.containers.entry(netns.id).or_insert(fresh);
                (container.netns, container.schedule) = (netns, Schedule::new(now));
                container.ports.push(port);
            }
            Message::Refused(id) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.schedule.refused(now);
                }
            }
            Message::Moved(netns) => {
                if let Some(container) = self.containers.get_mut(&netns.id) {
                    container.netns = netns;
                }
            }
        }
    }

    /// When the next round begins.
    fn next(&self) -> Option<Duration> {
        let first = |schedule: &Schedule| schedule.is_first();
        let schedules = || self.containers.values().map(|container| &container.schedule);
        if let Some(new) = schedules().find(|schedule| first(schedule)) {
            return Some(new.due());
        }
        schedules().map(Schedule::due).min().map(|due| due.max(self.pace.free))
    }

    /// Looks at all containers that are new, and at those that are due, as many as may be.
    async fn round(&mut self) {
        self.containers.retain(|_, container| {
            container.ports.retain(|port| !port.tell.is_closed());
            !container.ports.is_empty()
        });
        let now = self.now();
        let chosen = self.choose(now);
        let questions: Vec<Question> =
            chosen.iter().filter_map(|id| self.containers.get(id)).map(Container::question).collect();
        if questions.is_empty() {
            return;
        }
        let answers = match tokio::task::spawn_blocking(|| look(questions)).await {
            Ok(looked) => looked.unwrap_or_else(|error| self.nothing(&error)),
            Err(error) => self.nothing(&error),
        };
        let mut answers = answers.into_iter();
        let now = self.now();
        for id in chosen {
            let answer = answers.next().and_then(|answer| answer.unwrap_or_else(|error| self.nothing(&error)));
            if let Some(container) = self.containers.get_mut(&id) {
                container.tell(now, answer);
            }
        }
    }

    /// The containers to look at now.
    fn choose(&mut self, now: Duration) -> Vec<NetnsId> {
        let (first, again): (Vec<_>, Vec<_>) = self
            .containers
            .iter()
            .filter(|(_, container)| container.schedule.due() <= now)
            .partition(|(_, container)| container.schedule.is_first());
        let mut chosen: Vec<NetnsId> = first.into_iter().map(|(id, _)| *id).collect();
        if now < self.pace.free || again.is_empty() {
            return chosen;
        }
        let mut again = again;
        again.sort_by_key(|(_, container)| container.schedule.due());
        let mut ports = 0;
        for (id, container) in again {
            if ports >= PORTS_MOST {
                break;
            }
            ports += container.ports.len();
            chosen.push(*id);
        }
        self.pace.began(now, ports);
        chosen
    }

    /// Nothing was seen because of this error, which is logged once.
    fn nothing<T: Default>(&mut self, error: &dyn fmt::Display) -> T {
        if !std::mem::replace(&mut self.logged, true) {
            tracing::warn!(
                %error,
                "cannot see who listens in containers: connections to ports that the kernel does not translate are \
                 accepted, and reset if the container refuses"
            );
        }
        T::default()
    }
}
