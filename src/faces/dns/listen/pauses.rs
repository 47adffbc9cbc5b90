//! Sockets that rest: one whose client floods is looked at once in a while, not whenever it has something. Its queue stays
//! full meanwhile, and the kernel drops what comes, which costs the flooder time and not the thread. So the thread sleeps
//! most of the time even in a flood, and Linux lets run at once who has slept.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long; a batch takes some 0.1 ms. So such a client gets some 10,000 answers in a second.
const REST: Duration = Duration::from_millis(1);

/// Which rest, in the order in which they end.
#[derive(Debug, Default)]
pub(crate) struct Pauses(VecDeque<(Instant, u64)>);

impl Pauses {
    /// A socket rests from now on.
    pub(crate) fn begin(&mut self, key: u64, now: Instant) {
        self.0.push_back((now + REST, key));
    }

    /// Whether any rests.
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// One that has rested for long enough.
    pub(crate) fn ended(&mut self, now: Instant) -> Option<u64> {
        let (_, key) = *self.0.front().filter(|(until, _)| *until <= now)?;
        self.0.pop_front();
        Some(key)
    }

    /// For how many milliseconds the thread may wait for something else; `None`: for ever.
    pub(crate) fn patience(&self) -> Option<u8> {
        self.any().then_some(REST.as_millis() as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_rest_for_a_while_each() {
        let (begin, mut pauses) = (Instant::now(), Pauses::default());
        assert_eq!((pauses.any(), pauses.patience()), (false, None));
        pauses.begin(7, begin);
        pauses.begin(8, begin + REST / 2);
        assert_eq!((pauses.any(), pauses.patience()), (true, Some(1)));
        assert_eq!(pauses.ended(begin + REST / 2), None);
        assert_eq!(pauses.ended(begin + REST), Some(7));
        assert_eq!(pauses.ended(begin + REST), None);
        assert_eq!(pauses.ended(begin + 2 * REST), Some(8));
        assert!(!pauses.any());
    }
}
