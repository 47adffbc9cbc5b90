//! Load shedding, for when questions arrive faster than they can be answered. Without it the kernel would drop the
//! latest packets of any client that uses the same socket. Dropping a question is much cheaper than answering it. So
//! while the receive queue of a socket is more than a quarter full, a client that sends many questions gets few
//! answers, and the questions of other clients get through.

use std::collections::HashMap;
use std::net::IpAddr;

/// Shedding starts when more than this fraction of the queue is used (1/4).
const FULL: u32 = 4;
/// Shedding ends when no more than this fraction is used (1/16).
const RELIEVED: u32 = 16;
/// The number of questions after which the counts per client start again.
const WINDOW: usize = 4096;
/// Questions of one client that are answered in one window. A client that does not flood sends fewer.
const PER_CLIENT: u32 = 64;
/// A client that sends this many questions in one window floods.
const FLOOD: u32 = 512;

/// The state of one socket.
#[derive(Debug, Default)]
pub(crate) struct LoadShedding {
    shedding: bool,
    counted: usize,
    clients: HashMap<IpAddr, u32>,
    flooding: Option<IpAddr>,
}

impl LoadShedding {
    /// Whether shedding is on. If so, the caller must report the fill level with [`Self::filled`] for each batch.
    pub(crate) fn is_on(&self) -> bool {
        self.shedding
    }

    /// Reports the fill level of the queue: `bytes` of `of`.
    pub(crate) fn filled(&mut self, bytes: u32, of: u32) {
        let bound = of / if self.shedding { RELIEVED } else { FULL };
        self.shedding = bytes > bound;
        if !self.shedding {
            self.clients.clear();
            self.counted = 0;
        }
    }

    /// Whether to answer a question of this client.
    pub(crate) fn admits(&mut self, client: IpAddr) -> bool {
        if !self.shedding {
            return true;
        }
        self.counted += 1;
        if self.counted > WINDOW {
            self.clients.clear();
            self.counted = 1;
        }
        let count = self.clients.entry(client).or_default();
        *count += 1;
        if *count == FLOOD {
            self.flooding = Some(client);
        }
        *count <= PER_CLIENT
    }

    /// The client that was last found to flood, unless an earlier call has returned it.
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
