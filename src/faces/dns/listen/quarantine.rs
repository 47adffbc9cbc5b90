//! The clients of a gateway that are in quarantine because they flood. Their questions go to the quarantine shard.
//! Other clients may have the same shard as a flooding client by their address; they get it back when the flooding
//! client is steered to the quarantine shard.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::engine::listener::QUARANTINE_MAX;

/// Clients leave quarantine when the quarantine shard has not been flooded for this long. The delay keeps a flood in
/// bursts from being steered back and forth.
const CALM: Duration = Duration::from_secs(10);

/// The quarantine of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    clients: Vec<IpAddr>,
    /// When a client in quarantine was last found to flood.
    flooded: Option<Instant>,
}

impl Quarantine {
    /// The clients to steer to the quarantine shard.
    pub(crate) fn clients(&self) -> &[IpAddr] {
        &self.clients
    }

    /// Quarantines a client that floods its shard. If quarantine is full, the client that has been in it longest
    /// leaves. Returns whether [`Self::clients`] has changed.
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

    /// Reports whether the quarantine shard is flooded. Returns whether [`Self::clients`] has changed: it becomes empty
    /// after [`CALM`] without a flood.
    pub(crate) fn update(&mut self, flooded: bool, now: Instant) -> bool {
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
        assert!(!apart.update(false, begin), "nobody is apart");
        assert!(apart.floods(client(0), begin));
        assert!(!apart.floods(client(0), begin), "it is known");
        assert_eq!(apart.clients(), [client(0)]);
        assert!(!apart.update(true, begin + CALM / 2));
        assert!(!apart.update(false, begin + CALM));
        assert!(apart.update(false, begin + CALM / 2 + CALM));
        assert!(apart.clients().is_empty());
        for n in 0..=QUARANTINE_MAX {
            assert!(apart.floods(client(n), begin));
        }
        assert_eq!(apart.clients().len(), QUARANTINE_MAX);
        assert_eq!((apart.clients()[0], apart.clients()[QUARANTINE_MAX - 1]), (client(1), client(QUARANTINE_MAX)));
        assert!(apart.update(false, begin + CALM), "also where the shard apart has never been flooded");
    }
}
