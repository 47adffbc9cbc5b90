//! A stand-in for systemd-resolved on the bus: records the calls about links, one per line. It is this program, started
//! once more: the owner of a bus name is identified by its process, which must be in the namespace that represents the
//! host.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::resolved::{Process, on_the_host, start};
use crate::wait::until;

/// Names the file of the calls; its presence makes this program the stand-in.
pub const CALLS: &str = "NETD_TESTS_RESOLVE1_CALLS";
const FILE: &str = "/run/lab/resolve1.calls";

/// The running stand-in; it ends when dropped.
pub struct StandIn(#[expect(dead_code, reason = "kept until the end")] Process);

impl StandIn {
    /// Starts it in the namespace that represents the host; it owns the name when this returns. Records of an earlier
    /// one are deleted.
    pub fn start() -> Self {
        Self::start_as(on_the_host(&own_program()))
    }

    /// Starts it outside of the host's network.
    pub fn start_elsewhere() -> Self {
        Self::start_as(std::process::Command::new(own_program()))
    }

    fn start_as(mut command: std::process::Command) -> Self {
        let _ = fs::remove_file(FILE);
        let process = start(command.env(CALLS, FILE));
        until("the stand-in has its name", || fs::metadata(FILE));
        Self(process)
    }
}

fn own_program() -> PathBuf {
    std::env::current_exe().expect("this program")
}

/// The calls so far.
pub fn calls() -> Vec<String> {
    fs::read_to_string(FILE).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Is the stand-in, until it is killed.
pub fn serve(file: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let manager = Manager { file: file.to_owned() };
        let bus = zbus::connection::Builder::system()
            .serve_at("/org/freedesktop/resolve1", manager)
            .name("org.freedesktop.resolve1")
            .build()
            .await
            .expect("its name on the bus");
        OpenOptions::new().create(true).append(true).open(file).expect("the file of the calls");
        bus.closed().await;
    });
    ExitCode::SUCCESS
}

struct Manager {
    file: PathBuf,
}

impl Manager {
    fn note(&self, ifindex: i32, call: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.file).expect("the file of the calls");
        file.write_all(format!("{ifindex} {call}\n").as_bytes()).expect("a line");
    }
}

/// The names are those of org.freedesktop.resolve1(5).
#[zbus::interface(name = "org.freedesktop.resolve1.Manager")]
impl Manager {
    #[zbus(name = "SetLinkDNS")]
    fn set_link_dns(&self, ifindex: i32, addresses: Vec<(i32, Vec<u8>)>) {
        let address = |(family, bytes): (i32, Vec<u8>)| match family {
            libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(&bytes[..]).map(Ipv4Addr::from).expect("4 bytes")),
            libc::AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).map(Ipv6Addr::from).expect("16 bytes")),
            other => panic!("address family {other}"),
        };
        let addresses: Vec<String> = addresses.into_iter().map(|one| address(one).to_string()).collect();
        self.note(ifindex, &format!("dns {}", addresses.join(" ")));
    }

    fn set_link_domains(&self, ifindex: i32, domains: Vec<(String, bool)>) {
        let shown = |(name, only): (String, bool)| format!("{}{name}", if only { "~" } else { "" });
        self.note(ifindex, &format!("domains {}", domains.into_iter().map(shown).collect::<Vec<_>>().join(" ")));
    }

    fn set_link_default_route(&self, ifindex: i32, enable: bool) {
        self.note(ifindex, &format!("default-route {enable}"));
    }

    #[zbus(name = "SetLinkLLMNR")]
    fn set_link_llmnr(&self, ifindex: i32, mode: &str) {
        self.note(ifindex, &format!("llmnr {mode}"));
    }

    #[zbus(name = "SetLinkMulticastDNS")]
    fn set_link_multicast_dns(&self, ifindex: i32, mode: &str) {
        self.note(ifindex, &format!("mdns {mode}"));
    }

    #[zbus(name = "SetLinkDNSOverTLS")]
    fn set_link_dns_over_tls(&self, ifindex: i32, mode: &str) {
        self.note(ifindex, &format!("dns-over-tls {mode}"));
    }

    #[zbus(name = "SetLinkDNSSEC")]
    fn set_link_dnssec(&self, ifindex: i32, mode: &str) {
        self.note(ifindex, &format!("dnssec {mode}"));
    }

    fn revert_link(&self, ifindex: i32) {
        self.note(ifindex, "revert");
    }
}
