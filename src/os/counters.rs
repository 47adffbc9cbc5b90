//! The counters of an interface of this network namespace (sysfs-class-net-statistics in the kernel's Documentation/ABI).

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

/// The counters of the interface with this name; zero if there is none.
pub fn of(ifname: &str) -> Counters {
    let read = |counter: &str| {
        let text = std::fs::read_to_string(format!("/sys/class/net/{ifname}/statistics/{counter}"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    };
    let way = |way: &str| Way {
        bytes: read(&format!("{way}_bytes")),
        packets: read(&format!("{way}_packets")),
        errors: read(&format!("{way}_errors")),
        dropped: read(&format!("{way}_dropped")),
    };
    Counters { received: way("rx"), sent: way("tx") }
}
