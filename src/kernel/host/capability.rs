//! Checks that this process has the privileges that netd needs.

use std::fs;
use std::io;

use crate::kernel::KernelError;
use crate::kernel::netlink::socket::failed;

/// `CAP_NET_ADMIN` (linux/capability.h).
const NET_ADMIN: u32 = 12;

/// Fails if the kernel would refuse every change of the network, so that this is reported once and not by the first
/// step.
pub fn check() -> Result<(), KernelError> {
    let effective = fs::read_to_string("/proc/self/status").ok().and_then(|status| effective(&status));
    // Without procfs this is unknown; the first step will report a lack.
    if effective.is_none_or(|set| set & (1 << NET_ADMIN) != 0) {
        return Ok(());
    }
    let look = "run netd as root, or give its service CAP_NET_ADMIN and CAP_SYS_ADMIN";
    let missing = io::Error::new(io::ErrorKind::PermissionDenied, "CAP_NET_ADMIN is missing");
    Err(failed("administer", "the network", look)(missing))
}

/// The effective capabilities (proc_pid_status(5)).
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read() {
        let status = "Name:\tnetd\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\nCapBnd:\t0\n";
        assert_eq!(effective(status), Some(1 << NET_ADMIN));
        assert_eq!(effective("Name:\tnetd\n"), None);
    }
}
