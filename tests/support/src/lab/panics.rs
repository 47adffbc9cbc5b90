//! The panic of a failed test, kept for its report.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static REMEMBER: RefCell<bool> = const { RefCell::new(false) };
}

/// From now on this thread's panics are kept for [`last`] instead of printed between other tests' output.
pub(super) fn remember() {
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
pub(super) fn last() -> String {
    LAST_PANIC.with(RefCell::take).unwrap_or_else(|| "it failed without a message".to_owned())
}
