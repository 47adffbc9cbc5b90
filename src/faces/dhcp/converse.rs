//! One conversation with DHCP servers, over a socket in the container.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio::time::{sleep_until, timeout_at};

use super::{Key, Target};
use crate::base::clock::{boot_seconds, unix_seconds};
use crate::base::monotonic;
use crate::engine::Handle;
use crate::engine::lease::schedule::Ask;
use crate::engine::lease::wire::{self, LARGEST};
use crate::engine::lease::{Client, Conversation, LeaseFate, LeaseNews, Outcome};
use crate::model::lease::Lease;

/// How long an answer is waited for; twice as long after each message that had none (RFC 2131, 4.1).
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest of these waits: a port of a bridge may begin to forward meanwhile.
const LONGEST: Duration = Duration::from_secs(4);

/// What the engine is told of the lease of an endpoint.
pub(super) struct Teller {
    handle: Handle,
    key: Key,
    client: Client,
}

impl Teller {
    pub(super) fn new(handle: Handle, key: Key, client: Client) -> Self {
        Self { handle, key, client }
    }

    /// Tells it, also if the conversation is broken off meanwhile: what was granted must not be lost. Returns why the
    /// address cannot be used.
    pub(super) async fn tell(&self, fate: LeaseFate) -> Option<String> {
        let (handle, (key, sequence)) = (self.handle.clone(), self.key.clone());
        let news = LeaseNews { key, sequence, client: self.client.clone(), fate };
        tokio::spawn(async move { handle.note_lease(news).await }).await.ok()?
    }
}

/// Asks as long as `span`, and tells what came of it.
pub(super) async fn converse(target: Target, ask: Ask, span: Duration, teller: Teller) {
    let Target { netns, ifname, client } = target;
    let conversation = Conversation::new(client, ask, rand::random());
    let opened = match spawn_blocking(move || wire::open(&netns, &ifname)).await {
        Ok(Ok(socket)) => wire::watched(socket).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let failure = match opened {
        Ok(socket) => {
            match (Talk { conversation, socket, teller: &teller, restarts: 0, asked: None }).speak(span).await {
                Ok(failure) => failure,
                Err(error) => Some(format!("speak to DHCP servers: {error}")),
            }
        }
        Err(error) => Some(error),
    };
    if let Some(why) = failure {
        teller.tell(LeaseFate::Failed(why)).await;
    }
}

/// A quarter more or less, so that those who began together do not go on together (RFC 2131, 4.1).
fn about(patience: Duration) -> Duration {
    patience * (192 + u32::from(rand::random::<u8>()) / 2) / 256
}

/// A conversation and its socket.
struct Talk<'a> {
    conversation: Conversation,
    socket: AsyncFd<OwnedFd>,
    teller: &'a Teller,
    /// How often it has begun again.
    restarts: u32,
    /// When what it says now was said first, in seconds since the boot and since the Unix epoch: a lease counts from there.
    asked: Option<(u64, u64)>,
}

impl Talk<'_> {
    /// Returns why nothing has come of it in time; `None`: what has, was told.
    async fn speak(&mut self, span: Duration) -> io::Result<Option<String>> {
        let began = monotonic::now();
        let end = began + span;
        let mut patience = PATIENCE;
        while monotonic::now() < end {
            let secs = u16::try_from(began.elapsed().as_secs()).unwrap_or(u16::MAX);
            self.asked.get_or_insert((boot_seconds(), unix_seconds()));
            self.send(&self.conversation.frame(secs))?;
            let until = (monotonic::now() + about(patience)).min(end);
            match timeout_at(until.into(), self.hear()).await {
                Ok(Ok(Outcome::Granted(lease))) => match self.teller.tell(LeaseFate::Granted(lease.clone())).await {
                    Some(why) => {
                        if !self.decline(&lease, &why)? {
                            return Ok(None);
                        }
                        patience = self.rest(end.into()).await;
                    }
                    None => return Ok(None),
                },
                Ok(Ok(Outcome::Refused(why))) => {
                    self.teller.tell(LeaseFate::Lost(why)).await;
                    return Ok(None);
                }
                Ok(Ok(Outcome::Again)) => patience = self.rest(end.into()).await,
                Ok(Ok(_)) => (patience, self.asked) = (PATIENCE, None),
                Ok(Err(error)) => return Err(error),
                Err(_) => patience = (patience * 2).min(LONGEST),
            }
        }
        Ok(Some(format!("{} within {} s", self.conversation.failure(), span.as_secs())))
    }

    /// Tells the server that the address which it granted cannot be used. Returns whether another one is looked for now.
    fn decline(&mut self, lease: &Lease, why: &str) -> io::Result<bool> {
        let looks = self.conversation.looks();
        let frame = self.conversation.decline(lease, why);
        self.send(&frame)?;
        Ok(looks)
    }

    /// Begins again: at once the first time, then twice as long after the last time each time, so that a server that repeats
    /// itself is not asked without end. Returns how long the next answer is waited for.
    async fn rest(&mut self, end: tokio::time::Instant) -> Duration {
        self.conversation.begin_again(rand::random());
        self.asked = None;
        if let Some(doublings) = self.restarts.checked_sub(1) {
            sleep_until((monotonic::now() + PATIENCE * (1 << doublings.min(8))).min(end.into()).into()).await;
        }
        self.restarts += 1;
        PATIENCE
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        wire::send_on(self.socket.get_ref(), frame)
    }

    /// Listens until something has come of what was heard.
    async fn hear(&mut self) -> io::Result<Outcome> {
        let mut buffer = [0; LARGEST];
        let asked = self.asked.unwrap_or_default();
        loop {
            let mut ready = self.socket.readable().await?;
            let Ok(frame) = ready.try_io(|socket| wire::receive(socket.get_ref(), &mut buffer)) else { continue };
            match self.conversation.hear(frame?, asked) {
                Outcome::Waiting => {}
                outcome => return Ok(outcome),
            }
        }
    }
}
