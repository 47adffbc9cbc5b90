//! The privileges that the daemon needs: it checks that it has them, and gives up all others.

use std::fs;
use std::io;

use crate::kernel::KernelError;
use crate::kernel::netlink::socket::failed;
use crate::os::privileges;

/// `CAP_NET_ADMIN` (linux/capability.h).
const NET_ADMIN: u32 = 12;
/// What the daemon needs, with the numbers of linux/capability.h; `dist/netd.service` has the same list.
const NEEDED: [(&str, u32); 9] = [
    // The group of the API's socket.
    ("CAP_CHOWN", 0),
    // The sockets of users' container engines, and their namespaces' paths.
    ("CAP_DAC_OVERRIDE", 1),
    // Published ports below 1024.
    ("CAP_NET_BIND_SERVICE", 10),
    // Notifications from the namespaces of containers.
    ("CAP_NET_BROADCAST", 11),
    // Interfaces, addresses, routes, firewall, sysctls.
    ("CAP_NET_ADMIN", NET_ADMIN),
    // iptables-legacy, which opens a raw socket, and the packet sockets of the relay.
    ("CAP_NET_RAW", 13),
    // Namespaces of processes of all users, and who has a port or a namespace open.
    ("CAP_SYS_PTRACE", 19),
    // Entering network namespaces.
    ("CAP_SYS_ADMIN", 21),
    // The name service's thread comes first.
    ("CAP_SYS_NICE", 23),
];

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

/// Gives up every other capability, and the possibility that a program that the daemon runs gets more. Must be called
/// before the process has a second thread.
pub fn restrict() -> Result<(), KernelError> {
    let look = "see capabilities(7)";
    privileges::keep_only(&NEEDED.map(|(_, number)| number)).map_err(failed("give up", "capabilities", look))
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
    fn the_unit_names_the_same_capabilities() {
        let unit = include_str!("../../../dist/netd.service");
        let listed = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
        assert_eq!(listed.split(' ').collect::<Vec<_>>(), NEEDED.map(|(name, _)| name));
    }

    #[test]
    fn the_effective_set_is_read() {
        let status = "Name:\tnetd\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\nCapBnd:\t0\n";
        assert_eq!(effective(status), Some(1 << NET_ADMIN));
        assert_eq!(effective("Name:\tnetd\n"), None);
    }
}
