//! A clock that the test moves.
//!
//! It is that of the test's runtime (`base::monotonic`), and so of the engine and the name service that are started in
//! it. Sockets, programs and other threads go on in real time: wait for what they do, then move the clock.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tokio::time::Instant;

/// How far the clock moves at once.
const STEP: Duration = Duration::from_millis(10);
/// How often tasks take turns after each move: more than there are tasks that wait for each other.
const SETTLE: usize = 8;

/// The stopped clock of a runtime; dropping it does not start it again.
#[derive(Debug)]
pub struct Clock {
    /// Ends the blocking task.
    _stopped: Sender<()>,
}

impl Clock {
    /// Stops the clock of the current runtime, which must be of the type `current_thread`.
    pub fn stop() -> Self {
        tokio::time::pause();
        let (stopped, end) = channel();
        // Tokio moves a stopped clock to the next timer as soon as no task can go on, also while they wait for sockets
        // and threads, but not while a blocking task runs.
        tokio::task::spawn_blocking(move || end.recv());
        Self { _stopped: stopped }
    }

    /// Moves it forward. Timers that end within this time end in their order, and what they lead to happens before the
    /// clock moves on, as far as it needs tasks of this runtime only.
    pub async fn advance(&self, by: Duration) {
        let end = Instant::now() + by;
        while Instant::now() < end {
            tokio::time::advance(STEP.min(end - Instant::now())).await;
            for _ in 0..SETTLE {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Moves it forward at once, for long times in which nothing happens.
    pub async fn jump(&self, by: Duration) {
        tokio::time::advance(by).await;
    }
}
