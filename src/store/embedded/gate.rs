//! The gate before every call that reads or changes a file of the store: closed by tests, as a full disk, an error of the
//! device or the end of the process closes it.

use std::io;
#[cfg(test)]
use std::sync::{Arc, Mutex};

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Open,
    Read,
    Write,
    SetLen,
    Sync,
    Rename,
    Remove,
}

/// What decides about a call: its number, counted from 0.
#[cfg(test)]
type Rule = Box<dyn FnMut(usize, Call) -> io::Result<()> + Send>;

#[cfg(test)]
struct Rules {
    calls: usize,
    rule: Rule,
}

/// Open, except in tests. Clones are one gate.
#[derive(Clone, Default)]
pub(super) struct Gate {
    #[cfg(test)]
    rules: Option<Arc<Mutex<Rules>>>,
}

impl Gate {
    /// Fails if the call must not be made.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "only tests close the gate")]
    pub(super) fn pass(&self, _: Call) -> io::Result<()> {
        Ok(())
    }

    /// How many bytes a write that must not be made writes all the same.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "only tests close the gate")]
    pub(super) fn torn(&self, _: &io::Error, _: usize) -> usize {
        0
    }
}

#[cfg(test)]
impl Gate {
    pub(super) fn with(rule: impl FnMut(usize, Call) -> io::Result<()> + Send + 'static) -> Self {
        Self { rules: Some(Arc::new(Mutex::new(Rules { calls: 0, rule: Box::new(rule) }))) }
    }

    pub(super) fn set(&self, rule: impl FnMut(usize, Call) -> io::Result<()> + Send + 'static) {
        let mut rules = self.rules.as_ref().expect("a gate with rules").lock().unwrap();
        *rules = Rules { calls: 0, rule: Box::new(rule) };
    }

    pub(super) fn pass(&self, call: Call) -> io::Result<()> {
        let Some(rules) = &self.rules else { return Ok(()) };
        let mut rules = rules.lock().unwrap();
        let number = rules.calls;
        rules.calls += 1;
        (rules.rule)(number, call)
    }

    /// Half of the pages if the kernel refused the call; nothing if the process has ended.
    pub(super) fn torn(&self, error: &io::Error, len: usize) -> usize {
        if error.raw_os_error().is_some() { len / 2 / 4096 * 4096 } else { 0 }
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}
