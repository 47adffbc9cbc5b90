//! Waiting: every wait has a deadline, and says there what it waited for and what it saw last.
//!
//! The deadlines are of the real clock, also where a test has stopped the clock of its runtime.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

/// How long something that happens by itself may take before it counts as not happening.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The polling interval, also that of asynchronous tests, which look at what is in their own process.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOK_AGAIN_ASYNC: Duration = Duration::from_millis(1);

/// `NETD_SLOW`: how many times longer waits may take, in a machine that is emulated (scripts/vm).
pub fn slowness() -> u32 {
    std::env::var("NETD_SLOW").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// A look at what is waited for.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what was seen",
    note = "use `seen`, `is`, `contains` or `lacks` of `netd_testing::wait`"
)]
pub trait Look {
    /// What was waited for.
    type Found;
    /// It, or the description of what is there instead.
    fn judge(self) -> Result<Self::Found, String>;
}

impl<T, E: Debug> Look for Result<T, E> {
    type Found = T;
    fn judge(self) -> Result<T, String> {
        // Lines of a text stay lines.
        self.map_err(|seen| format!("{seen:#?}").replace("\\n", "\n"))
    }
}

impl<T> Look for Option<T> {
    type Found = T;
    fn judge(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

/// What was seen, as what was waited for if it satisfies the condition.
pub fn seen<T>(seen: T, holds: impl FnOnce(&T) -> bool) -> Result<T, T> {
    if holds(&seen) { Ok(seen) } else { Err(seen) }
}

/// Whether exactly this was seen.
pub fn is<T: PartialEq<U>, U: ?Sized>(seen: T, expected: &U) -> Result<T, T> {
    self::seen(seen, |seen| seen == expected)
}

/// Whether the text has this part.
pub fn contains(text: impl Into<String>, part: &str) -> Result<String, String> {
    seen(text.into(), |text| text.contains(part))
}

/// Whether the text does not have this part.
pub fn lacks(text: impl Into<String>, part: &str) -> Result<String, String> {
    seen(text.into(), |text| !text.contains(part))
}

/// Looks until it finds what is waited for; fails after [`PATIENCE`].
#[track_caller]
pub fn until<L: Look>(what: &str, look: impl FnMut() -> L) -> L::Found {
    until_within(PATIENCE, what, look)
}

/// Looks until it finds what is waited for; fails after this time.
#[track_caller]
pub fn until_within<L: Look>(patience: Duration, what: &str, look: impl FnMut() -> L) -> L::Found {
    match within(patience, look) {
        Ok(found) => found,
        Err(there) => panic!("{}", too_late(patience, what, &there)),
    }
}

/// Looks until it finds what is waited for; after this time, the error describes what is there instead.
pub fn within<L: Look>(patience: Duration, mut look: impl FnMut() -> L) -> Result<L::Found, String> {
    let deadline = Instant::now() + patience * slowness();
    loop {
        match look().judge() {
            Err(_) if Instant::now() < deadline => thread::park_timeout(LOOK_AGAIN),
            judged => return judged,
        }
    }
}

/// [`until`] for an asynchronous test.
pub async fn until_async<L: Look>(what: &str, mut look: impl AsyncFnMut() -> L) -> L::Found {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let there = match look().await.judge() {
            Ok(found) => return found,
            Err(there) => there,
        };
        assert!(Instant::now() < deadline, "{}", too_late(PATIENCE, what, &there));
        // Not with a timer of the runtime, whose clock may be stopped.
        let paused = tokio::task::spawn_blocking(|| thread::park_timeout(LOOK_AGAIN_ASYNC));
        paused.await.expect("a thread that only waits");
    }
}

/// What the future returns; fails after ten seconds: name servers take longer than what [`until`] waits for.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    // Not a timer of the runtime, whose clock may be stopped.
    let too_late = tokio::task::spawn_blocking(move || wait.recv_timeout(2 * PATIENCE));
    tokio::select! {
        found = future => {
            drop(done);
            found
        }
        _ = too_late => panic!("waited {:?} without success for {what}", 2 * PATIENCE),
    }
}

fn too_late(patience: Duration, what: &str, there: &str) -> String {
    format!("waited {patience:?} without success until {what}; seen last: {there}")
}
