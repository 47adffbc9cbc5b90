//! What the rules use sets for, and what follows from that: their order and their tables.

use super::{DESCRIBED, Set, Table};

/// What the rules use a set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// Which interfaces are netd's, and what may pass them.
    Interfaces,
    /// The source address of what leaves.
    SourceNat,
    /// Published ports at one address of the host.
    PublishedAtAddress,
    /// Published ports at all addresses of the host.
    Published,
    /// Questions to the name service, and its answers.
    NameService,
    /// What containers may send.
    Guard,
    /// Which flows pass.
    Policies,
    /// Which member of a service gets a connection.
    Services,
}

impl Set {
    /// All sets and maps, in the order of their declaration: by family, then by purpose.
    pub fn all() -> Vec<Self> {
        let mut all = DESCRIBED.to_vec();
        all.sort_by_key(|set| (set.family(), set.purpose()));
        all
    }

    /// The table that it is in.
    pub fn table(self) -> Table {
        match self.purpose() {
            Purpose::Guard => Table::Bridge,
            Purpose::Services => Table::Services,
            _ => Table::Inet,
        }
    }

    /// Whether it holds intervals.
    pub fn interval(self) -> bool {
        self.key().iter().any(|kind| kind.interval())
    }
}
