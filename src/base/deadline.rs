//! A deadline for retries.

use std::time::{Duration, Instant};

use super::monotonic;

/// A point in time, counted on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// The point in time after `span` from now; a span that is too long for the clock never ends.
    pub fn after(span: Duration) -> Self {
        Self(monotonic::now().checked_add(span))
    }

    /// The remaining time; `None` if the deadline has passed.
    pub fn remaining(self) -> Option<Duration> {
        match self.0 {
            None => Some(Duration::MAX),
            Some(end) => end.checked_duration_since(monotonic::now()).filter(|left| !left.is_zero()),
        }
    }

    /// Waits for `step` or for the remaining time, whichever is shorter; returns false if no time was left. For
    /// conditions that send no notification when they change.
    pub fn pause(self, step: Duration) -> bool {
        let Some(left) = self.remaining() else { return false };
        std::thread::park_timeout(step.min(left));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_passes() {
        let deadline = Deadline::after(Duration::from_millis(2));
        while deadline.pause(Duration::from_millis(1)) {}
        assert_eq!(deadline.remaining(), None);
        assert!(Deadline::after(Duration::MAX).remaining().is_some());
    }
}
