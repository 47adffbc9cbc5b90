//! Pauses of quarantine shards. A shard whose clients flood is read once per pause instead of whenever it is readable.
//! Its queue stays full meanwhile and the kernel drops what arrives, which costs CPU time of the sender and not of this
//! thread. So the thread sleeps most of the time even in a flood, and Linux schedules a thread that has slept without
//! delay.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The length of a pause. A batch takes about 0.1 ms. The clients of a paused shard get about 10,000 answers per
/// second.
const REST: Duration = Duration::from_millis(1);

/// The paused sockets, in the order in which their pauses end.
#[derive(Debug, Default)]
pub(crate) struct Pauses(VecDeque<(Instant, u64)>);

impl Pauses {
    /// Starts a pause of a socket.
    pub(crate) fn begin(&mut self, key: u64, now: Instant) {
        self.0.push_back((now + REST, key));
    }

    /// Whether any socket is paused.
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Removes and returns a socket whose pause has ended.
    pub(crate) fn ended(&mut self, now: Instant) -> Option<u64> {
        let (_, key) = *self.0.front().filter(|(until, _)| *until <= now)?;
        self.0.pop_front();
        Some(key)
    }

    /// How many milliseconds the thread may wait for other sockets. `None` means without limit.
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
