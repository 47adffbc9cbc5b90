//! Waiting for a condition with a deadline, and recording the panic of a failed test.

use std::cell::RefCell;
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

/// How long something that happens by itself may take before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(5);
/// The polling interval.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Returns when the condition holds; fails, naming it, when it does not within five seconds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    until_some(what, || holds().then_some(()));
}

/// The same for what takes longer by design.
#[track_caller]
pub(crate) fn until_within(seconds: u64, what: &str, mut holds: impl FnMut() -> bool) {
    some_within(Duration::from_secs(seconds), what, || holds().then_some(()));
}

/// The first `Some` within five seconds; fails, naming what was waited for.
#[track_caller]
pub(crate) fn until_some<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    some_within(PATIENCE, what, look)
}

/// Whether the condition holds within that time.
pub(crate) fn holds_within(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::park_timeout(LOOK_AGAIN);
    }
}

#[track_caller]
fn some_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} without success until {what}");
        thread::park_timeout(LOOK_AGAIN);
    }
}

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static REMEMBER: RefCell<bool> = const { RefCell::new(false) };
}

/// From now on this thread's panics are kept for [`last_panic`] instead of printed between other tests' output.
pub(crate) fn remember_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if REMEMBER.with(|remember| *remember.borrow()) {
                let place = info.location().map_or_else(String::new, |place| format!(" ({place})"));
                let message = words(info.payload());
                LAST_PANIC.with(|last| last.replace(Some(format!("{message}{place}"))));
            } else {
                print(info);
            }
        }));
    });
    REMEMBER.with(|remember| remember.replace(true));
}

fn words(payload: &dyn std::any::Any) -> &str {
    let formatted = payload.downcast_ref::<String>().map(String::as_str);
    formatted.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// The message and place of the last panic of this thread.
pub(crate) fn last_panic() -> String {
    LAST_PANIC.with(RefCell::take).unwrap_or_else(|| "it failed without a message".to_owned())
}
