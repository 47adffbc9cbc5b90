//! `/proc/sys/net`: the settings of the network namespace of the calling thread.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::KernelError;
use super::netlink::failed;

const LOOK: &str = "is /proc/sys writable for root here?";

/// The file of a setting below `net`, by its path elements (an interface name may contain dots).
fn file(path: &[&str]) -> PathBuf {
    let mut file = PathBuf::from("/proc/sys/net");
    file.extend(path);
    file
}

/// As `sysctl` writes it: "net.ipv4.ip_forward".
fn name(path: &[&str]) -> String {
    format!("net.{}", path.join("."))
}

/// The value without white space at its ends; `None` when the kernel has no such setting.
pub fn get(path: &[&str]) -> Result<Option<String>, KernelError> {
    match fs::read_to_string(file(path)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read sysctl", name(path), "is /proc mounted?")(error)),
    }
}

/// Writes the value.
pub fn set(path: &[&str], value: &str) -> Result<(), KernelError> {
    fs::write(file(path), value).map_err(failed("set sysctl", format!("{} to {value}", name(path)), LOOK))
}

/// Writes the value where the kernel has the setting; a kernel without IPv6 has no `net.ipv6`.
pub fn set_where_present(path: &[&str], value: &str) -> Result<(), KernelError> {
    match fs::write(file(path), value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("set sysctl", format!("{} to {value}", name(path)), LOOK)(error))
        }
        _ => Ok(()),
    }
}

/// The id of this boot of the machine (random(4)): what describes kernel objects is void in another one.
pub fn boot_id() -> Result<String, KernelError> {
    let file = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(file).map_err(failed("read", file, "is /proc mounted?"))?;
    Ok(text.trim().to_owned())
}

/// Whether the kernel of this namespace speaks IPv6 at all.
pub fn has_ipv6() -> bool {
    file(&["ipv6", "conf", "all"]).exists()
}

/// `net.ipv4.ip_forward` and `net.ipv6.conf.all.forwarding`.
pub fn forwarding() -> Result<(bool, bool), KernelError> {
    let on = |value: Option<String>| value.is_some_and(|value| value != "0");
    Ok((on(get(&["ipv4", "ip_forward"])?), on(get(&["ipv6", "conf", "all", "forwarding"])?)))
}

/// Turns forwarding on for the families that are true.
pub fn forward(v4: bool, v6: bool) -> Result<(), KernelError> {
    let (has_v4, has_v6) = forwarding()?;
    if v4 && !has_v4 {
        set(&["ipv4", "ip_forward"], "1")?;
    }
    if v6 && !has_v6 {
        keep_router_advertisements()?;
        set(&["ipv6", "conf", "all", "forwarding"], "1")?;
    }
    Ok(())
}

/// A forwarding host ignores router advertisements where `accept_ra` is 1, and would lose its default route with the
/// next one that expires; 2 accepts them all the same (Documentation/networking/ip-sysctl.rst).
fn keep_router_advertisements() -> Result<(), KernelError> {
    let directory = file(&["ipv6", "conf"]);
    let entries = fs::read_dir(&directory).map_err(failed("list", directory.display(), "is /proc mounted?"))?;
    for entry in entries.flatten() {
        let Ok(interface) = entry.file_name().into_string() else { continue };
        if interface == "all" || interface == "default" {
            continue;
        }
        let path = ["ipv6", "conf", interface.as_str(), "accept_ra"];
        if get(&path)?.as_deref() == Some("1") {
            set_where_present(&path, "2")?;
        }
    }
    Ok(())
}

/// The settings of a bridge before it comes up: published ports are reachable by 127.0.0.1, addresses are usable at
/// once, nobody on the bridge configures the host.
pub fn prepare_bridge(name: &str, v6: bool) -> Result<(), KernelError> {
    set(&["ipv4", "conf", name, "route_localnet"], "1")?;
    set_where_present(&["ipv6", "conf", name, "accept_ra"], "0")?;
    set_where_present(&["ipv6", "conf", name, "accept_dad"], "0")?;
    set_where_present(&["ipv6", "conf", name, "disable_ipv6"], if v6 { "0" } else { "1" })
}

/// The settings of a container's interface before it comes up.
pub fn prepare_container(ifname: &str, v6: bool) -> Result<(), KernelError> {
    if v6 {
        set_where_present(&["ipv6", "conf", ifname, "accept_ra"], "0")?;
        set_where_present(&["ipv6", "conf", ifname, "accept_dad"], "0")?;
    }
    set_where_present(&["ipv6", "conf", ifname, "disable_ipv6"], if v6 { "0" } else { "1" })
}
