//! Which clients of a gateway have their questions in the shard apart: those that were found to flood. Others may have the
//! same shard by their address; they are alone there again as soon as the flood is led elsewhere.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::engine::listener::QUARANTINE_MAX;

/// They are led back when the shard apart has not been flooded for so long: a flood in bursts is not led to and fro.
const CALM: Duration = Duration::from_secs(10);

/// Of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    clients: Vec<IpAddr>,
    /// When one of them was last found to flood.
    flooded: Option<Instant>,
}

impl Quarantine {
    /// Who is to be led to the shard apart.
    pub(crate) fn clients(&self) -> &[IpAddr] {
        &self.clients
    }

    /// A client floods its shard; the one that has been apart for longest makes room. Whether [`Self::clients`] is another
    /// one now.
    pub(crate) fn floods(&mut self, client: IpAddr, now: Instant) -> bool {
        self.flooded = Some(now);
        if self.clients.contains(&client) {
            return false;
        }
        if self.clients.len() == QUARANTINE_MAX {
            self.clients.remove(0);
        }
        self.clients.push(client);
        true
    }

    /// The shard apart is flooded, or is not. Whether [`Self::clients`] is another one now: empty, after a calm time.
    pub(crate) fn looked(&mut self, flooded: bool, now: Instant) -> bool {
        if flooded {
            self.flooded = Some(now);
        }
        let calm = self.flooded.is_some_and(|flooded| now.duration_since(flooded) >= CALM);
        if calm {
            *self = Self::default();
        }
        calm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_floods_is_apart_until_it_has_been_calm() {
        let (begin, mut apart) = (Instant::now(), Quarantine::default());
        let client = |n: usize| IpAddr::from([10, 0, 0, n as u8]);
        assert!(!apart.looked(false, begin), "nobody is apart");
        assert!(apart.floods(client(0), begin));
        assert!(!apart.floods(client(0), begin), "it is known");
        assert_eq!(apart.clients(), [client(0)]);
        assert!(!apart.looked(true, begin + CALM / 2));
        assert!(!apart.looked(false, begin + CALM));
        assert!(apart.looked(false, begin + CALM / 2 + CALM));
        assert!(apart.clients().is_empty());
        for n in 0..=QUARANTINE_MAX {
            assert!(apart.floods(client(n), begin));
        }
        assert_eq!(apart.clients().len(), QUARANTINE_MAX);
        assert_eq!((apart.clients()[0], apart.clients()[QUARANTINE_MAX - 1]), (client(1), client(QUARANTINE_MAX)));
        assert!(apart.looked(false, begin + CALM), "also where the shard apart has never been flooded");
    }
}
