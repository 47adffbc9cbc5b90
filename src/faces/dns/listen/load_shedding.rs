//! What is done when questions come faster than they can be answered: the kernel would drop whatever comes last, of
//! anybody who has the same socket. Dropping a question unanswered is much cheaper than answering it, so as long as a
//! socket's queue is filled beyond a quarter, a client that asks for much gets few answers, and everybody else's questions
//! get through.

use std::collections::HashMap;
use std::net::IpAddr;

/// The queue counts as too full from one part in so many on...
const FULL: u32 = 4;
/// ...until it is down to one part in so many.
const RELIEVED: u32 = 16;
/// While it is too full, of each so many questions...
const WINDOW: usize = 4096;
/// ...so many of one client are answered. A client that is not the reason asks for less in that time.
const PER_CLIENT: u32 = 64;
/// Who has asked for so many of them is the reason.
const FLOOD: u32 = 512;

/// The state of one socket.
#[derive(Debug, Default)]
pub(crate) struct LoadShedding {
    shedding: bool,
    seen: usize,
    clients: HashMap<IpAddr, u32>,
    flooding: Option<IpAddr>,
}

impl LoadShedding {
    /// Whether it must be told how full the queue is.
    pub(crate) fn is_on(&self) -> bool {
        self.shedding
    }

    /// How full the queue is: bytes, of so many.
    pub(crate) fn filled(&mut self, bytes: u32, of: u32) {
        let bound = of / if self.shedding { RELIEVED } else { FULL };
        self.shedding = bytes > bound;
        if !self.shedding {
            self.clients.clear();
            self.seen = 0;
        }
    }

    /// Whether a question of this client is looked at.
    pub(crate) fn admits(&mut self, client: IpAddr) -> bool {
        if !self.shedding {
            return true;
        }
        self.seen += 1;
        if self.seen > WINDOW {
            self.clients.clear();
            self.seen = 1;
        }
        let count = self.clients.entry(client).or_default();
        *count += 1;
        if *count == FLOOD {
            self.flooding = Some(client);
        }
        *count <= PER_CLIENT
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
        let mut load_shedding = LoadShedding::default();
        let answered = |load_shedding: &mut LoadShedding| {
            let count =
                (0..2 * WINDOW).filter(|n| load_shedding.admits(if n % 100 == 0 { other } else { flooder })).count();
            (count, load_shedding.is_on())
        };
        load_shedding.filled(25, 100);
        assert_eq!(answered(&mut load_shedding), (2 * WINDOW, false));
        assert_eq!(load_shedding.flooding(), None);
        load_shedding.filled(26, 100);
        let others = 2 * WINDOW.div_ceil(100);
        assert_eq!(answered(&mut load_shedding), (2 * PER_CLIENT as usize + others, true));
        assert_eq!((load_shedding.flooding(), load_shedding.flooding()), (Some(flooder), None));
        load_shedding.filled(10, 100);
        assert!(load_shedding.is_on(), "not relieved yet");
        load_shedding.filled(6, 100);
        assert_eq!(answered(&mut load_shedding), (2 * WINDOW, false));
    }
}
