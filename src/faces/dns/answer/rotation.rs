//! Whose turn it is: counts answers, so that containers which share a name are named first in turn.

use std::sync::atomic::{AtomicUsize, Ordering};

/// One count for each type: clients ask for A and AAAA together, and with a common count every second container would
/// never be first.
#[derive(Debug, Default)]
pub(crate) struct Turns([AtomicUsize; 2]);

impl Turns {
    /// By how much the next answer of this type (its number) is rotated.
    pub(crate) fn next(&self, kind: u16) -> usize {
        self.0[usize::from(kind & 1)].fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_take_turns_of_their_own() {
        let turns = Turns::default();
        for turn in 0..4 {
            assert_eq!((turns.next(1), turns.next(28)), (turn, turn));
        }
    }
}
