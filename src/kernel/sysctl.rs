//! `/proc/sys/net`: the settings of a network namespace.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use super::KernelError;
use super::netlink::socket::failed;
use crate::model::address::Families;
use crate::model::host::routing::TurnedOn;
use crate::model::names::IfName;
use crate::os::sys;

const LOOK: &str = "is /proc/sys writable for root here?";

/// The settings of the network namespace of the thread that uses it.
///
/// It reads and writes through its own procfs mount. In a shared one the kernel keeps an entry `net/ipv6` for every
/// namespace that ever accessed it, all in one hash chain, so that each access costs more (`proc_sys_compare`,
/// fs/proc/proc_sysctl.c; with 1000 containers 0.5 ms). Therefore there is one mount for the host, and a fresh one for
/// each container.
#[derive(Debug)]
pub struct Sysctl {
    proc: Option<OwnedFd>,
}

impl Sysctl {
    /// Opens it; uses `/proc` if a private procfs mount is not permitted.
    pub fn open() -> Self {
        let proc = sys::private_proc().inspect_err(|error| tracing::debug!(%error, "settings are set through /proc"));
        Self { proc: proc.ok() }
    }

    /// The file of a setting below `net`, by its path elements (an interface name may contain dots).
    fn file(&self, path: &[&str]) -> PathBuf {
        let mut file = match &self.proc {
            Some(proc) => PathBuf::from(format!("/proc/thread-self/fd/{}/sys/net", proc.as_raw_fd())),
            None => PathBuf::from("/proc/sys/net"),
        };
        file.extend(path);
        file
    }

    /// The trimmed value; `None` if the kernel has no such setting.
    pub fn get(&self, path: &[&str]) -> Result<Option<String>, KernelError> {
        match fs::read_to_string(self.file(path)) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read sysctl", name(path), "is /proc mounted?")(error)),
        }
    }

    /// Whether the setting exists and is not 0.
    pub fn is_on(&self, path: &[&str]) -> Result<bool, KernelError> {
        Ok(self.get(path)?.is_some_and(|value| value != "0"))
    }

    /// Writes the value.
    pub fn set(&self, path: &[&str], value: &str) -> Result<(), KernelError> {
        fs::write(self.file(path), value).map_err(failed("set sysctl", format!("{} to {value}", name(path)), LOOK))
    }

    /// Writes the value if the kernel has the setting; a kernel without IPv6 has no `net.ipv6`.
    pub fn set_where_present(&self, path: &[&str], value: &str) -> Result<(), KernelError> {
        match fs::write(self.file(path), value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("set sysctl", format!("{} to {value}", name(path)), LOOK)(error))
            }
            _ => Ok(()),
        }
    }

    /// Whether the kernel supports IPv6 in this namespace.
    pub fn has_ipv6(&self) -> bool {
        self.file(&["ipv6", "conf", "all"]).exists()
    }

    /// Whether the interface has settings for IPv6: the kernel supports it, and its MTU is large enough.
    pub fn has_ipv6_on(&self, ifname: &str) -> bool {
        self.file(&["ipv6", "conf", ifname]).exists()
    }

    /// `net.ipv4.ip_forward` and `net.ipv6.conf.all.forwarding`.
    pub fn forwarding(&self) -> Result<Families, KernelError> {
        Ok(Families {
            v4: self.is_on(&["ipv4", "ip_forward"])?,
            v6: self.is_on(&["ipv6", "conf", "all", "forwarding"])?,
        })
    }

    /// Enables forwarding for the address families.
    pub fn forward(&self, families: Families) -> Result<(), KernelError> {
        let missing = families.without(self.forwarding()?);
        if missing.v4 {
            self.set(&["ipv4", "ip_forward"], "1")?;
        }
        if missing.v6 {
            self.keep_router_advertisements()?;
            self.set(&["ipv6", "conf", "all", "forwarding"], "1")?;
        }
        Ok(())
    }

    /// Disables forwarding for the address families. The kernel copies `net.ipv6.conf.all.forwarding` to every interface,
    /// and `net.ipv4.ip_forward` too (`addrconf_fixup_forwarding`, net/ipv6/addrconf.c; `inet_forward_change`,
    /// net/ipv4/devinet.c), so nothing is left of what enabling it changed.
    pub fn stop_forwarding(&self, before: &TurnedOn) -> Result<(), KernelError> {
        let TurnedOn { families, accept_ra } = before;
        if families.v4 {
            self.set(&["ipv4", "ip_forward"], "0")?;
        }
        if families.v6 {
            self.set(&["ipv6", "conf", "all", "forwarding"], "0")?;
            for interface in accept_ra {
                let path = ["ipv6", "conf", interface.as_str(), "accept_ra"];
                if self.get(&path)?.as_deref() == Some("2") {
                    self.set_where_present(&path, "1")?;
                }
            }
        }
        Ok(())
    }

    /// A forwarding host ignores router advertisements if `accept_ra` is 1, and would lose its default route when it
    /// expires; with 2 it accepts them all the same (Documentation/networking/ip-sysctl.rst).
    fn keep_router_advertisements(&self) -> Result<(), KernelError> {
        let advertised = self.advertised()?;
        advertised
            .iter()
            .try_for_each(|name| self.set_where_present(&["ipv6", "conf", name.as_str(), "accept_ra"], "2"))
    }

    /// The interfaces whose `accept_ra` is 1.
    pub fn advertised(&self) -> Result<BTreeSet<IfName>, KernelError> {
        let directory = self.file(&["ipv6", "conf"]);
        let mut advertised = BTreeSet::new();
        if !self.has_ipv6() {
            return Ok(advertised);
        }
        let entries = fs::read_dir(&directory).map_err(failed("list", "net.ipv6.conf", "is /proc mounted?"))?;
        for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            let is_interface = name != "all" && name != "default";
            if is_interface && self.get(&["ipv6", "conf", name.as_str(), "accept_ra"])?.as_deref() == Some("1") {
                advertised.extend(name.parse::<IfName>().ok());
            }
        }
        Ok(advertised)
    }

    /// The settings of a bridge before it comes up: published ports are reachable at 127.0.0.1, addresses are usable at
    /// once, and nothing on the bridge configures the host.
    pub fn prepare_bridge(&self, name: &str, v6: bool) -> Result<(), KernelError> {
        self.adopt(name)?;
        self.set_where_present(&["ipv6", "conf", name, "accept_ra"], "0")?;
        self.set_where_present(&["ipv6", "conf", name, "accept_dad"], "0")?;
        self.set_where_present(&["ipv6", "conf", name, "disable_ipv6"], if v6 { "0" } else { "1" })
    }

    /// Allows ports published on 127.0.0.1 to be routed through the interface.
    ///
    /// # Errors
    /// Also if there is no such interface.
    pub fn adopt(&self, name: &str) -> Result<(), KernelError> {
        self.set(&["ipv4", "conf", name, "route_localnet"], "1")
    }

    /// The host end of a container's interface gets no address, not even a link-local one.
    pub fn prepare_port(&self, name: &str) -> Result<(), KernelError> {
        self.set_where_present(&["ipv6", "conf", name, "disable_ipv6"], "1")
    }

    /// The settings of a container's interface before it comes up.
    pub fn prepare_container(&self, ifname: &str, v6: bool) -> Result<(), KernelError> {
        if v6 {
            self.set_where_present(&["ipv6", "conf", ifname, "accept_ra"], "0")?;
            self.set_where_present(&["ipv6", "conf", ifname, "accept_dad"], "0")?;
        }
        self.set_where_present(&["ipv6", "conf", ifname, "disable_ipv6"], if v6 { "0" } else { "1" })
    }
}

/// The name as `sysctl` writes it: "net.ipv4.ip_forward".
fn name(path: &[&str]) -> String {
    format!("net.{}", path.join("."))
}

/// The id of this boot of the machine (random(4)): descriptions of kernel objects are invalid after a reboot.
pub fn boot_id() -> Result<String, KernelError> {
    let file = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(file).map_err(failed("read", file, "is /proc mounted?"))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::lab::{Parked, in_own_netns};

    #[test]
    fn the_settings_are_those_of_the_namespace_the_thread_is_in() {
        in_own_netns(|| {
            for sysctl in [Sysctl::open(), Sysctl { proc: None }] {
                let container = Parked::new();
                sysctl.set(&["ipv4", "ip_forward"], "1").unwrap();
                let (sysctl, inside) = container.run(move || {
                    let inside = sysctl.forwarding().unwrap();
                    (sysctl, inside)
                });
                assert_eq!((sysctl.forwarding().unwrap().v4, inside.v4), (true, false));
                let error = sysctl.set(&["ipv4", "conf", "none", "forwarding"], "1").unwrap_err().to_string();
                assert!(error.starts_with("set sysctl net.ipv4.conf.none.forwarding to 1: No such file"), "{error}");
                sysctl.set_where_present(&["ipv9", "x"], "1").unwrap();
            }
        });
    }
}
