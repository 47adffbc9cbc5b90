//! Rotation: counts answers, so that each of the containers with the same name comes first in turn.

use std::sync::atomic::{AtomicUsize, Ordering};

/// One counter for each type. Clients ask for A and AAAA together, and with a common counter every second container
/// would never come first.
#[derive(Debug, Default)]
pub(crate) struct Turns([AtomicUsize; 2]);

impl Turns {
    /// By how much to rotate the next answer of this type, given as its number.
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
