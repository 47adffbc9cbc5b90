//! Programs that configure every link they find: with the files in `dist` they leave netd's alone.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::is;
use nix::mount::{MsFlags, mount};

use crate::lab::{Lab, resolved, run, skippable, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("managers: systemd-networkd leaves netd's links alone", networkd),
        skippable("managers: NetworkManager leaves netd's links alone", network_manager),
    ]
}

const NETWORKD: &str = "/lib/systemd/systemd-networkd";

/// The interfaces of the host with this address.
fn with_address(address: &str) -> Vec<String> {
    let shown = run(&format!("ip -n host -j address show to {address}")).ok().json();
    let links = shown.as_array().expect("a list").iter().filter(|link| link["ifname"].is_string());
    links.map(|link| link["ifname"].as_str().expect("a name").to_owned()).collect()
}

/// What both do to every link that is not left alone.
const ADDRESS: &str = "203.0.113.77";

/// Networks before and after the manager was started, with `start` in between; asserts that it has configured the last
/// link of the host, which is nobody's, and none of netd's.
fn leaves_ours_alone<T>(lab: &Lab, start: impl FnOnce() -> T) -> T {
    lab.start_daemon();
    lab.netd("network create before").ok();
    lab.connected("before", "web", "-p 4000:80");
    let manager = start();
    lab.netd("network create after").ok();
    lab.connected("after", "db", "");
    run("ip -n host link add last type veth peer name end").ok();
    run("ip -n host link set last up").ok();
    // They take links in the order in which they came.
    until("the last link is configured", || is(with_address(ADDRESS).contains(&"last".to_owned()), &true));
    let ours: Vec<String> = with_address(ADDRESS).into_iter().filter(|name| name.starts_with("nd")).collect();
    assert_eq!(ours, Vec::<String>::new(), "it has configured netd's links");
    assert_eq!(lab.diff(), "");
    manager
}

/// Both wait for udev, which the laboratory does not have, to tell of every link, but where `/sys` cannot be written, as in
/// a container (systemd.io/CONTAINER_INTERFACE).
fn without_udev() {
    mounted("sysfs", "/sys", MsFlags::MS_RDONLY);
}

fn mounted(what: &str, at: &str, flags: MsFlags) {
    mount(Some("lab"), at, Some(what), flags, None::<&str>).unwrap_or_else(|error| panic!("{what} on {at}: {error}"));
}

fn networkd(lab: &Lab) -> Completion {
    if !Path::new(NETWORKD).exists() {
        return Completion::ignored_with(format!("no {NETWORKD}"));
    }
    for folder in ["/run/systemd/network", "/run/systemd/netif/links", "/run/systemd/netif/leases"] {
        fs::create_dir_all(folder).expect("a folder");
    }
    // As on a host that was set up for one interface by somebody who did not think of others.
    let every = format!("[Match]\nName=*\n[Network]\nAddress={ADDRESS}/32\nLinkLocalAddressing=no\n");
    fs::write("/run/systemd/network/80-every.network", every).expect("a file");
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/networkd/10-netd.network");
    fs::copy(ours, "/run/systemd/network/10-netd.network").expect("a copy");
    without_udev();
    let _bus = resolved::start_bus();
    leaves_ours_alone(lab, || {
        let log = File::create("/run/lab/networkd.log").expect("a file");
        let mut command = Command::new("nsenter");
        command.args(["--net=/run/netns/host", "--", NETWORKD]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        resolved::start(&mut command)
    });
    Completion::Completed
}

/// Where `scripts/test` unpacks Debian's packages, and where an installed one is.
const PLACES: [&str; 2] = [concat!(env!("CARGO_MANIFEST_DIR"), "/target/network-manager/usr"), "/usr"];

/// One of its programs on the host.
fn of_network_manager(place: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", &format!("{place}/{program}")]).stdin(Stdio::null());
    let libraries = format!("{place}/lib/{}-linux-gnu", std::env::consts::ARCH);
    command.env("LD_LIBRARY_PATH", libraries).env_remove("DBUS_SYSTEM_BUS_ADDRESS");
    command
}

fn network_manager(lab: &Lab) -> Completion {
    let Some(place) = PLACES.into_iter().find(|place| Path::new(place).join("sbin/NetworkManager").exists()) else {
        return Completion::ignored_with("no NetworkManager: scripts/test fetches it where it can");
    };
    let settings = "/etc/NetworkManager/system-connections";
    for folder in [settings, "/etc/NetworkManager/conf.d", "/run/NetworkManager"] {
        fs::create_dir_all(folder).expect("a folder");
    }
    // It keeps leases and states there.
    mounted("tmpfs", "/var/lib", MsFlags::empty());
    fs::write("/etc/NetworkManager/NetworkManager.conf", "[main]\nplugins=keyfile\ndns=none\n").expect("a file");
    let every = format!(
        "[connection]\nid=every\ntype=ethernet\nmulti-connect=3\nautoconnect-priority=9\n\
         [ipv4]\nmethod=manual\naddress1={ADDRESS}/32\n[ipv6]\nmethod=disabled\n"
    );
    let connection = format!("{settings}/every.nmconnection");
    fs::write(&connection, every).expect("a file");
    // It reads none that others may read.
    fs::set_permissions(&connection, Permissions::from_mode(0o600)).expect("its mode");
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/NetworkManager/netd.conf");
    fs::copy(ours, "/etc/NetworkManager/conf.d/netd.conf").expect("a copy");
    without_udev();
    let _bus = resolved::start_bus();
    let _manager = leaves_ours_alone(lab, || {
        let log = || File::options().create(true).append(true).open("/run/lab/manager.log").expect("a file");
        let mut command = of_network_manager(place, "sbin/NetworkManager");
        command.args(["--debug", "--log-level=INFO"]).stdout(log()).stderr(log());
        resolved::start(&mut command)
    });
    let shown = of_network_manager(place, "bin/nmcli").args(["-t", "-f", "DEVICE,STATE", "device"]).output();
    let shown = String::from_utf8(shown.expect("nmcli").stdout).expect("text");
    let ours: Vec<&str> = shown.lines().filter(|line| line.starts_with("nd")).collect();
    assert!(ours.len() >= 4 && ours.iter().all(|line| line.ends_with(":unmanaged")), "{shown}");
    Completion::Completed
}
