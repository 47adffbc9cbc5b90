//! Bandwidth limits of one endpoint, in the units of the CNI convention: bits per second and bits, seen from the
//! container (ingress is what it receives).

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::names::{ContainerName, IfName, NetworkName};

/// The kernel stores the size of the bucket as a 32-bit number of bytes (`struct tc_tbf_qopt`, linux/pkt_sched.h).
const BURST_BYTES_MAX: u64 = u32::MAX as u64;

/// A token bucket: the average rate, and the size of a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Bits per second, at least 8.
    pub rate: u64,
    /// Bits, at least 8.
    pub burst: u64,
}

impl Rate {
    /// `None` if both are zero or absent: no limit. One without the other is refused.
    pub fn new(direction: &'static str, rate: Option<u64>, burst: Option<u64>) -> Result<Option<Self>, Invalid> {
        let invalid = |value: u64, why: &str| Err(Invalid::new(direction, value.to_string(), why));
        match (rate.unwrap_or(0), burst.unwrap_or(0)) {
            (0, 0) => Ok(None),
            (rate, 0) => invalid(rate, "a rate needs a burst, in bits"),
            (0, burst) => invalid(burst, "a burst needs a rate, in bits per second"),
            (rate, _) if rate < 8 => invalid(rate, "a rate has at least 8 bits per second"),
            (_, burst) if burst < 8 => invalid(burst, "a burst has at least 8 bits"),
            (_, burst) if burst / 8 > BURST_BYTES_MAX => invalid(burst, "a burst has less than 4 GiB"),
            (rate, burst) => Ok(Some(Self { rate, burst })),
        }
    }

    /// Bytes per second.
    pub fn bytes_per_second(self) -> u64 {
        self.rate / 8
    }

    /// Bytes.
    pub fn burst_bytes(self) -> u32 {
        u32::try_from(self.burst / 8).unwrap_or(u32::MAX)
    }
}

/// Limits of both directions; at least one is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Towards the container.
    pub ingress: Option<Rate>,
    /// From the container.
    pub egress: Option<Rate>,
}

/// The target of the limits of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shaping {
    /// For the intermediate device's alias.
    pub network: NetworkName,
    /// For the intermediate device's alias.
    pub container: ContainerName,
    /// The container's interface on the host: what it sends enters the container.
    pub host_ifname: IfName,
    /// The intermediate device (`ifb`) that carries what the container sends, if that is limited.
    pub ifb: IfName,
    /// MTU of the interface in bytes.
    pub mtu: u32,
    /// The limits.
    pub bandwidth: Bandwidth,
}

/// An interface of the host that may carry limits, and the intermediate device that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitedInterface {
    /// The interface, whichever program made it.
    pub host_ifname: IfName,
    /// The intermediate device.
    pub ifb: IfName,
}

impl Shaping {
    /// Where the limits are.
    pub fn interface(&self) -> LimitedInterface {
        LimitedInterface { host_ifname: self.host_ifname.clone(), ifb: self.ifb.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_a_burst_that_fits() {
        assert_eq!(Rate::new("ingress", None, Some(0)), Ok(None));
        let rate = Rate::new("ingress", Some(8_000_000), Some(800_000)).unwrap().unwrap();
        assert_eq!((rate.bytes_per_second(), rate.burst_bytes()), (1_000_000, 100_000));
        for (rate, burst) in [(Some(1000), None), (None, Some(1000)), (Some(7), Some(8)), (Some(1000), Some(1 << 36))] {
            assert!(Rate::new("ingress", rate, burst).is_err(), "{rate:?} {burst:?}");
        }
    }
}
