//! The host's own questions: tells its systemd-resolved over the system bus (`org.freedesktop.resolve1`) to ask our
//! gateways for our names, and for no others.
//!
//! `wanted` says what each bridge must have, `manager` is resolved's interface, `told` knows what resolved was told and
//! tells it the difference. The task here waits for whatever changes that: networks that come and go, a bridge made anew
//! under another index, resolved or the bus started again. When it ends it takes everything back; a daemon that was
//! killed leaves it until it is started again, or the bridge goes.
//!
//! resolved may be absent: that is a line in `netd status`, and everything else works as ever.

mod manager;
mod told;
mod wanted;

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

use crate::engine::event::{Change, Event};
use crate::engine::{Handle, host};
use crate::model::names::IfName;
use manager::{ManagerProxy, knows_no_link};
use told::Told;
use wanted::Settings;

/// resolved's name on the bus.
const NAME: WellKnownName<'static> = WellKnownName::from_static_str_unchecked("org.freedesktop.resolve1");
/// How long the bus and resolved may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long taking everything back may take when netd ends.
const FAREWELL: Duration = Duration::from_secs(3);
/// Between two looks for a bus that is not there: its socket gives no sign when it appears.
const NO_BUS: Duration = Duration::from_secs(1);
/// After resolved refused something: at first at once, because it hears of a new bridge a little later than we do.
const AGAIN_FIRST: Duration = Duration::from_millis(20);
/// The longest time between two attempts.
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// From this attempt on, about a second after the first, a bridge that resolved does not know is worth a line.
const WORTH_SAYING: u32 = 6;

/// Why the host does not ask us, and what to look at.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the system bus: {0}: see `systemctl status dbus`")]
    Bus(#[from] zbus::Error),
    #[error("systemd-resolved is not on the system bus: see `systemctl status systemd-resolved`")]
    Absent,
    #[error("systemd-resolved (process {0}) works in another network namespace than netd: see `lsns -t net`")]
    Elsewhere(u32),
    #[error("cannot see the network namespace of systemd-resolved (process {0}): {1}: see `lsns -t net`")]
    Hidden(u32, #[source] io::Error),
    #[error("systemd-resolved does not take the settings of {link}: {source}: see `resolvectl status {link}`")]
    Refused { link: IfName, source: zbus::Error },
}

impl From<fdo::Error> for Trouble {
    fn from(error: fdo::Error) -> Self {
        Self::Bus(error.into())
    }
}

/// Keeps resolved told until `stop` is cancelled, then takes everything back.
pub async fn run(handle: Handle, stop: CancellationToken) {
    let mut status = Status { handle, said: None };
    while let Err(trouble) = session(&mut status, &stop).await {
        status.say(Some(&trouble)).await;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(NO_BUS) => {}
        }
    }
}

/// What `netd status` says of us.
struct Status {
    handle: Handle,
    said: Option<String>,
}

impl Status {
    async fn say(&mut self, trouble: Option<&Trouble>) {
        let sentence = trouble.map(|trouble| format!("the host cannot ask for names: {trouble}"));
        if self.said != sentence {
            self.said.clone_from(&sentence);
            self.handle.report("dns of the host", sentence).await;
        }
    }
}

/// What is known over one connection to the bus.
struct Session<'a> {
    status: &'a mut Status,
    bus: Connection,
    names: DBusProxy<'static>,
    owners: NameOwnerChangedStream,
    events: Receiver<Arc<Event>>,
    manager: Option<ManagerProxy<'static>>,
    told: Told,
    /// How many times in a row something was refused.
    refusals: u32,
}

/// From a connection to the bus to its end (an error), or until `stop`.
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
        // `DBUS_SYSTEM_BUS_ADDRESS` says where the bus is, else its well-known place.
        let bus = zbus::connection::Builder::system().method_timeout(PATIENCE).build().await?;
        let names = DBusProxy::new(&bus).await?;
        // Both before the first look, so that no change is missed.
        let owners = names.receive_name_owner_changed_with_args(&[(0, NAME.as_str())]).await?;
        let events = status.handle.events();
        Ok(Self { status, bus, names, owners, events, manager: None, told: Told::default(), refusals: 0 })
    }

    /// Tells resolved whatever changes, until the bus goes.
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

    /// Looks who has resolved's name now; whoever it is was told nothing.
    async fn meet(&mut self) -> Result<(), Trouble> {
        self.told = Told::default();
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

    /// Addresses it by its unique name: that never makes the bus start a resolved which nobody wants.
    async fn find(&self) -> Result<ManagerProxy<'static>, Trouble> {
        let owner: UniqueName<'static> = match self.names.get_name_owner(NAME.into()).await {
            Ok(owner) => owner.into(),
            Err(fdo::Error::NameHasNoOwner(_)) => return Err(Trouble::Absent),
            Err(error) => return Err(error.into()),
        };
        let process = self.names.get_connection_unix_process_id(owner.clone().into()).await?;
        // Elsewhere, a link's index means another link.
        match host::shares_network_with(process) {
            Ok(true) => Ok(ManagerProxy::builder(&self.bus).destination(owner).build().await?),
            Ok(false) => Err(Trouble::Elsewhere(process)),
            Err(error) => Err(Trouble::Hidden(process, error)),
        }
    }

    async fn tell(&mut self) {
        let Some(manager) = &self.manager else { return };
        let wanted = wanted::wanted(&self.status.handle.snapshot()).into_iter();
        // A bridge that is gone is made again, and then there is an event.
        let by_index = wanted.filter_map(|(name, settings)| Some((host::index_of(&name)?, (name, settings))));
        let outcome = self.told.tell(manager, by_index.collect::<BTreeMap<i32, (IfName, Settings)>>()).await;
        self.refusals = if outcome.is_ok() { 0 } else { self.refusals + 1 };
        match &outcome {
            Err(Trouble::Refused { source, .. }) if knows_no_link(source) && self.refusals < WORTH_SAYING => {}
            outcome => self.status.say(outcome.as_ref().err()).await,
        }
    }

    async fn take_back(&mut self) {
        let Some(manager) = &self.manager else { return };
        match timeout(FAREWELL, self.told.tell(manager, BTreeMap::new())).await {
            Ok(Ok(())) => tracing::info!("the host no longer asks us for our names"),
            Ok(Err(trouble)) => tracing::warn!("{trouble}"),
            Err(_) => tracing::warn!("systemd-resolved did not answer within {} s", FAREWELL.as_secs()),
        }
    }
}

/// Waits for a change after which a bridge may be another one. Those that came together count as one.
async fn change(handle: &Handle, events: &mut Receiver<Arc<Event>>) {
    loop {
        match events.recv().await {
            Ok(event) if moves_a_bridge(handle, &event.change) => break,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => break,
            // The engine has ended, and this task will.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
    while matches!(events.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
}

fn moves_a_bridge(handle: &Handle, change: &Change) -> bool {
    match change {
        Change::NetworkCreated(_) | Change::NetworkRemoved(_) | Change::Repaired(_) => true,
        // Other programs make their bridges anew without a word.
        Change::Connected(endpoint) => {
            handle.snapshot().desired.network(&endpoint.network).is_some_and(|network| network.is_adopted())
        }
        Change::Disconnected { .. } | Change::Name { .. } | Change::Problem(_) | Change::HostChanged(_) => false,
    }
}

fn io_error(kind: io::ErrorKind) -> Trouble {
    Trouble::Bus(io::Error::from(kind).into())
}
