//! The systemd-resolved face: configures the host's systemd-resolved over the system bus (`org.freedesktop.resolve1`)
//! to ask netd's gateways for netd's names, and for no others.
//!
//! `target` computes the settings of each bridge, `manager` is resolved's interface, and `applied` records which settings
//! resolved has and sends the difference. The task here waits for changes: networks that are created or removed, a
//! bridge that is recreated with another index, a restart of resolved or of the bus. When it ends it reverts all
//! settings. The settings of a daemon that was killed remain until it is started again or the bridge is removed.
//!
//! If resolved is absent, `netd status` reports it, and everything else works as usual.

mod applied;
mod manager;
mod target;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use zbus::Connection;
use zbus::fdo::{self, DBusProxy, NameOwnerChangedStream};
use zbus::names::{UniqueName, WellKnownName};

use crate::engine::Subject;
use crate::engine::event::{Change, Event};
use crate::engine::{Handle, host};
use crate::model::names::IfName;
use applied::Applied;
use manager::{ManagerProxy, knows_no_link};
use target::Settings;

/// resolved's name on the bus.
const NAME: WellKnownName<'static> = WellKnownName::from_static_str_unchecked("org.freedesktop.resolve1");
/// How long the bus and resolved may take for one reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long reverting all settings may take when netd ends.
const FAREWELL: Duration = Duration::from_secs(3);
/// The interval of attempts to connect to an absent bus: there is no notification when its socket appears.
const NO_BUS: Duration = Duration::from_secs(1);
/// The first delay after resolved refused a call. It is short because resolved learns of a new bridge slightly later
/// than netd.
const AGAIN_FIRST: Duration = Duration::from_millis(20);
/// The longest delay between two attempts.
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// From this attempt on, about a second after the first, a bridge that resolved does not know is reported.
const WORTH_SAYING: u32 = 6;

/// Why the host does not ask netd, and what to check.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the system bus: {0}: see `systemctl status dbus`")]
    Bus(#[from] zbus::Error),
    #[error("systemd-resolved is not on the system bus: see `systemctl status systemd-resolved`")]
    Absent,
    #[error("systemd-resolved (process {0}) runs in another network namespace than netd: see `lsns -t net`")]
    Elsewhere(u32),
    #[error("cannot determine the network namespace of systemd-resolved (process {0}): {1}: see `lsns -t net`")]
    Hidden(u32, #[source] io::Error),
    #[error("systemd-resolved rejects the settings of {link}: {source}: see `resolvectl status {link}`")]
    Refused { link: IfName, source: zbus::Error },
}

impl From<fdo::Error> for Trouble {
    fn from(error: fdo::Error) -> Self {
        Self::Bus(error.into())
    }
}

/// Keeps resolved's settings current until `stop` is cancelled, then reverts them.
pub async fn run(handle: Handle, stop: CancellationToken) {
    let mut status = Status { handle, reported: None };
    while let Err(trouble) = session(&mut status, &stop).await {
        status.say(Some(&trouble)).await;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(NO_BUS) => {}
        }
    }
}

/// The problem that `netd status` reports.
struct Status {
    handle: Handle,
    reported: Option<String>,
}

impl Status {
    async fn say(&mut self, trouble: Option<&Trouble>) {
        let sentence = trouble.map(|trouble| format!("the host cannot resolve netd's names: {trouble}"));
        if self.reported != sentence {
            self.reported.clone_from(&sentence);
            self.handle.report(Subject::HostResolver, sentence).await;
        }
    }
}

/// The state of one connection to the bus.
struct Session<'a> {
    status: &'a mut Status,
    bus: Connection,
    names: DBusProxy<'static>,
    owners: NameOwnerChangedStream,
    events: Receiver<Arc<Event>>,
    manager: Option<ManagerProxy<'static>>,
    applied: Applied,
    /// The number of consecutive refusals.
    refusals: u32,
}

/// Runs from connecting to the bus until the bus ends (an error) or `stop` is cancelled.
async fn session(status: &mut Status, stop: &CancellationToken) -> Result<(), Trouble> {
    let opened = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        opened = timeout(PATIENCE, Session::open(status)) => opened,
    };
    let mut session = opened.map_err(|_| io_error(io::ErrorKind::TimedOut))??;
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        ended = session.follow() => ended,
    };
    if ended.is_ok() {
        session.take_back().await;
    }
    ended
}

impl<'a> Session<'a> {
    async fn open(status: &'a mut Status) -> Result<Self, Trouble> {
        // The bus is at `DBUS_SYSTEM_BUS_ADDRESS`, or else at its well-known path.
        let bus = zbus::connection::Builder::system().method_timeout(PATIENCE).build().await?;
        let names = DBusProxy::new(&bus).await?;
        // Subscribe to both before the first check, so that no change is missed.
        let owners = names.receive_name_owner_changed_with_args(&[(0, NAME.as_str())]).await?;
        let events = status.handle.events();
        Ok(Self { status, bus, names, owners, events, manager: None, applied: Applied::default(), refusals: 0 })
    }

    /// Sends every change to resolved until the bus ends.
    async fn follow(&mut self) -> Result<(), Trouble> {
        self.meet().await?;
        loop {
            self.tell().await;
            let again = AGAIN_FIRST.saturating_mul(1 << self.refusals.min(16)).min(AGAIN_MAX);
            tokio::select! {
                biased;
                () = self.bus.closed() => return Err(io_error(io::ErrorKind::BrokenPipe)),
                changed = self.owners.next() => {
                    changed.ok_or_else(|| io_error(io::ErrorKind::BrokenPipe))?;
                    self.meet().await?;
                }
                () = change(&self.status.handle, &mut self.events) => {}
                () = sleep(again), if self.refusals > 0 => continue,
            }
            self.refusals = 0;
        }
    }

    /// Finds the current owner of resolved's name. A new owner has none of netd's settings yet.
    async fn meet(&mut self) -> Result<(), Trouble> {
        self.applied = Applied::default();
        self.manager = match self.find().await {
            Ok(manager) => Some(manager),
            Err(Trouble::Bus(error)) => return Err(error.into()),
            Err(trouble) => {
                self.status.say(Some(&trouble)).await;
                None
            }
        };
        Ok(())
    }

    /// Uses the unique name of resolved, so that the bus never starts a resolved that is not wanted.
    async fn find(&self) -> Result<ManagerProxy<'static>, Trouble> {
        let owner: UniqueName<'static> = match self.names.get_name_owner(NAME.into()).await {
            Ok(owner) => owner.into(),
            Err(fdo::Error::NameHasNoOwner(_)) => return Err(Trouble::Absent),
            Err(error) => return Err(error.into()),
        };
        let process = self.names.get_connection_unix_process_id(owner.clone().into()).await?;
        // In another network namespace the index of a link means another link.
        match host::shares_network_with(process) {
            Ok(true) => Ok(ManagerProxy::builder(&self.bus).destination(owner).build().await?),
            Ok(false) => Err(Trouble::Elsewhere(process)),
            Err(error) => Err(Trouble::Hidden(process, error)),
        }
    }

    async fn tell(&mut self) {
        let Some(manager) = &self.manager else { return };
        let target = target::target(&self.status.handle.snapshot()).into_iter();
        // A missing bridge will be recreated, which causes an event.
        let by_index = target.filter_map(|(name, settings)| Some((host::index_of(&name)?, (name, settings))));
        let outcome = self.applied.tell(manager, by_index.collect::<BTreeMap<i32, (IfName, Settings)>>()).await;
        self.refusals = if outcome.is_ok() { 0 } else { self.refusals + 1 };
        match &outcome {
            Err(Trouble::Refused { source, .. }) if knows_no_link(source) && self.refusals < WORTH_SAYING => {}
            outcome => self.status.say(outcome.as_ref().err()).await,
        }
    }

    async fn take_back(&mut self) {
        let Some(manager) = &self.manager else { return };
        match timeout(FAREWELL, self.applied.tell(manager, BTreeMap::new())).await {
            Ok(Ok(())) => tracing::info!("systemd-resolved no longer forwards names to netd"),
            Ok(Err(trouble)) => tracing::warn!("{trouble}"),
            Err(_) => tracing::warn!("systemd-resolved did not answer within {} s", FAREWELL.as_secs()),
        }
    }
}

/// Waits for a change that may replace a bridge. Changes that arrive together count as one.
async fn change(handle: &Handle, events: &mut Receiver<Arc<Event>>) {
    loop {
        match events.recv().await {
            Ok(event) if moves_a_bridge(handle, &event.change) => break,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => break,
            // The engine has ended, and this task is about to end.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
    while matches!(events.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
}

fn moves_a_bridge(handle: &Handle, change: &Change) -> bool {
    match change {
        Change::NetworkCreated(_) | Change::NetworkRemoved(_) | Change::Repaired(_) => true,
        // Other programs recreate their bridges without notification.
        Change::Connected(endpoint) => {
            handle.snapshot().desired.network(&endpoint.network).is_some_and(|network| !network.makes_interfaces())
        }
        Change::NetworkChanged(_)
        | Change::ServiceCreated(_)
        | Change::ServiceUpdated(_)
        | Change::ServiceRemoved(_)
        | Change::PolicyAdded(_)
        | Change::PolicyRemoved(_)
        | Change::Denied(_)
        | Change::Member { .. }
        | Change::Disconnected { .. }
        | Change::Reserved(_)
        | Change::Released(_)
        | Change::Published { .. }
        | Change::Unpublished { .. }
        | Change::Name { .. }
        | Change::Lease { .. }
        | Change::Problem(_)
        | Change::HostChanged(_) => false,
    }
}

fn io_error(kind: io::ErrorKind) -> Trouble {
    Trouble::Bus(io::Error::from(kind).into())
}
