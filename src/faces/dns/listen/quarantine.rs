//! Which askers of a gateway have their questions in the lane apart: those that were found to flood. Others may have the
//! same lane by their address; they are alone there again as soon as the flood is led elsewhere.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::engine::listener::APART_MAX;

/// They are led back when the lane apart has not been flooded for so long: a flood in bursts is not led to and fro.
const CALM: Duration = Duration::from_secs(10);

/// Of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    askers: Vec<IpAddr>,
    /// When one of them was last found to flood.
    flooded: Option<Instant>,
}

impl Apart {
    /// Who is to be led to the lane apart.
    pub(crate) fn askers(&self) -> &[IpAddr] {
        &self.askers
    }

    /// An asker floods its lane; the one that has been apart for longest makes room. Whether [`Self::askers`] is another
    /// one now.
    pub(crate) fn floods(&mut self, asker: IpAddr, now: Instant) -> bool {
        self.flooded = Some(now);
        if self.askers.contains(&asker) {
            return false;
        }
        if self.askers.len() == APART_MAX {
            self.askers.remove(0);
        }
        self.askers.push(asker);
        true
    }

    /// The lane apart is flooded, or is not. Whether [`Self::askers`] is another one now: empty, after a calm time.
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
        let (begin, mut apart) = (Instant::now(), Apart::default());
        let asker = |n: usize| IpAddr::from([10, 0, 0, n as u8]);
        assert!(!apart.looked(false, begin), "nobody is apart");
        assert!(apart.floods(asker(0), begin));
        assert!(!apart.floods(asker(0), begin), "it is known");
        assert_eq!(apart.askers(), [asker(0)]);
        assert!(!apart.looked(true, begin + CALM / 2));
        assert!(!apart.looked(false, begin + CALM));
        assert!(apart.looked(false, begin + CALM / 2 + CALM));
        assert!(apart.askers().is_empty());
        for n in 0..=APART_MAX {
            assert!(apart.floods(asker(n), begin));
        }
        assert_eq!(apart.askers().len(), APART_MAX);
        assert_eq!((apart.askers()[0], apart.askers()[APART_MAX - 1]), (asker(1), asker(APART_MAX)));
        assert!(apart.looked(false, begin + CALM), "also where the lane apart has never been flooded");
    }
}
