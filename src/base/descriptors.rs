//! How many descriptors connections may take: some are left to the daemon's own work, whoever connects.

use std::os::fd::RawFd;

/// Descriptors that are never a connection's: for namespaces, netlink, published ports, the name service's sockets, the
/// `nft` program.
const RESERVE: u64 = 512;

/// The descriptors that connections may have. The kernel gives the lowest number that is free, so a number tells how
/// many are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room(u64);

impl Room {
    /// Of a process that may have so many descriptors. The reserve is at most half of them.
    pub fn of(limit: u64) -> Self {
        Self(limit - RESERVE.min(limit / 2))
    }

    /// Whether a connection with this descriptor may stay.
    pub fn has(self, descriptor: RawFd) -> bool {
        u64::try_from(descriptor).is_ok_and(|number| number < self.0)
    }
}

impl Default for Room {
    /// Without bound.
    fn default() -> Self {
        Self(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_left() {
        for (limit, last) in [(1024, 511), (512, 255), (1_048_576, 1_048_063)] {
            assert!(Room::of(limit).has(last) && !Room::of(limit).has(last + 1), "{limit}");
        }
        assert!(Room::default().has(RawFd::MAX));
    }
}
