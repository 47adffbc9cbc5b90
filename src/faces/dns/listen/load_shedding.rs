//! What is done when questions come faster than they can be answered: the kernel would drop whatever comes last, of
//! anybody who has the same socket. Dropping a question unanswered is much cheaper than answering it, so as long as a
//! socket's queue is filled beyond a quarter, an asker that asks for much gets few answers, and everybody else's questions
//! get through.

use std::collections::HashMap;
use std::net::IpAddr;

/// The queue counts as too full from one part in so many on...
const FULL: u32 = 4;
/// ...until it is down to one part in so many.
const RELIEVED: u32 = 16;
/// While it is too full, of each so many questions...
const WINDOW: usize = 4096;
/// ...so many of one asker are answered. An asker that is not the reason asks for less in that time.
const PER_ASKER: u32 = 64;
/// Who has asked for so many of them is the reason.
const FLOOD: u32 = 512;

/// The state of one socket.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    shedding: bool,
    seen: usize,
    askers: HashMap<IpAddr, u32>,
    flooding: Option<IpAddr>,
}

impl Overload {
    /// Whether it must be told how full the queue is.
    pub(crate) fn is_on(&self) -> bool {
        self.shedding
    }

    /// How full the queue is: bytes, of so many.
    pub(crate) fn filled(&mut self, bytes: u32, of: u32) {
        let bound = of / if self.shedding { RELIEVED } else { FULL };
        self.shedding = bytes > bound;
        if !self.shedding {
            self.askers.clear();
            self.seen = 0;
        }
    }

    /// Whether a question of this asker is looked at.
    pub(crate) fn admits(&mut self, asker: IpAddr) -> bool {
        if !self.shedding {
            return true;
        }
        self.seen += 1;
        if self.seen > WINDOW {
            self.askers.clear();
            self.seen = 1;
        }
        let count = self.askers.entry(asker).or_default();
        *count += 1;
        if *count == FLOOD {
            self.flooding = Some(asker);
        }
        *count <= PER_ASKER
    }

    /// Who has been found to be the reason since this was asked last.
    pub(crate) fn flooding(&mut self) -> Option<IpAddr> {
        self.flooding.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_floods_is_left_unanswered() {
        let (flooder, other) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let mut overload = Overload::default();
        let answered = |overload: &mut Overload| {
            let count = (0..2 * WINDOW).filter(|n| overload.admits(if n % 100 == 0 { other } else { flooder })).count();
            (count, overload.is_on())
        };
        overload.filled(25, 100);
        assert_eq!(answered(&mut overload), (2 * WINDOW, false));
        assert_eq!(overload.flooding(), None);
        overload.filled(26, 100);
        let others = 2 * WINDOW.div_ceil(100);
        assert_eq!(answered(&mut overload), (2 * PER_ASKER as usize + others, true));
        assert_eq!((overload.flooding(), overload.flooding()), (Some(flooder), None));
        overload.filled(10, 100);
        assert!(overload.is_on(), "not relieved yet");
        overload.filled(6, 100);
        assert_eq!(answered(&mut overload), (2 * WINDOW, false));
    }
}
