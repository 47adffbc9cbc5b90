//! How many descriptors connections may use: a reserve is left for the daemon's own work, regardless of the load.

use std::os::fd::RawFd;

/// Descriptors reserved for other purposes than connections: namespaces, netlink, published ports, the name service's
/// sockets, the `nft` program.
const RESERVE: u64 = 512;

/// The descriptors available to connections. The kernel assigns the lowest free number, so a number shows how many are
/// in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity(u64);

impl Capacity {
    /// For a process with this limit of descriptors. The reserve is at most half of it.
    pub fn of(limit: u64) -> Self {
        Self(limit - RESERVE.min(limit / 2))
    }

    /// Whether a connection with this descriptor may stay.
    pub fn has(self, descriptor: RawFd) -> bool {
        u64::try_from(descriptor).is_ok_and(|number| number < self.0)
    }
}

impl Default for Capacity {
    /// Unlimited.
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
            assert!(Capacity::of(limit).has(last) && !Capacity::of(limit).has(last + 1), "{limit}");
        }
        assert!(Capacity::default().has(RawFd::MAX));
    }
}
