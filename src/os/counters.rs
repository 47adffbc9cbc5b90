//! The counters of the interfaces of this network namespace, as `/proc/net/dev` (proc_net(5)) has them. Those in `/sys`
//! are of the namespace in which it was mounted.

use std::collections::HashMap;

/// What went one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets with errors.
    pub errors: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// Both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// What the interface has received.
    pub received: Way,
    /// What the interface has sent.
    pub sent: Way,
}

/// The counters of all interfaces, by name. An interface that is not there has none.
pub fn all() -> HashMap<String, Counters> {
    parse(&std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default())
}

/// Lines of `NAME: BYTES PACKETS ERRORS DROPPED …`, eight numbers each way, below two lines of titles.
fn parse(table: &str) -> HashMap<String, Counters> {
    let read = |line: &str| {
        let (name, numbers) = line.rsplit_once(':')?;
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let way = |first: usize| match numbers.get(first..first + 4) {
            Some(&[bytes, packets, errors, dropped]) => Some(Way { bytes, packets, errors, dropped }),
            _ => None,
        };
        Some((name.trim().to_owned(), Counters { received: way(0)?, sent: way(8)? }))
    };
    table.lines().skip(2).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_read() {
        let table = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
ndv1a:5000      40    2    3    0     0          0         0     7000      60    4    5    0     0       0          0
";
        let read = parse(table);
        let way = |bytes, packets, errors, dropped| Way { bytes, packets, errors, dropped };
        assert_eq!(read["ndv1a"], Counters { received: way(5000, 40, 2, 3), sent: way(7000, 60, 4, 5) });
        assert_eq!((read.len(), read["lo"].sent), (2, way(100, 1, 0, 0)));
        assert!(all().contains_key("lo"));
    }
}
