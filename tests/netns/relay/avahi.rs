//! The real Avahi: in the container, in the LAN, and on the host, where it has the port of mDNS before netd.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::seen;

use super::begin;
use super::peer::{MDNS4, Peer, until_relayed};
use crate::lab::resolved::{Process, start};
use crate::lab::{Lab, Out, command, run, skippable, space, until_within};

pub(crate) fn trials() -> Vec<Trial> {
    vec![skippable("relay: Avahi in a container, in the LAN and on the host find each other's services", |lab| {
        if let Some(missing) = ["avahi-daemon", "avahi-browse", "avahi-publish", "dbus-daemon"].into_iter().find(lacks)
        {
            return Completion::ignored_with(format!("{missing} is not installed (scripts/test installs it)"));
        }
        if !Path::new("/proc/self/uid_map").exists() || run("chown 1 /run/lab").code != Some(0) {
            return Completion::ignored_with("Avahi needs more than one user");
        }
        run("chown 0 /run/lab").ok();
        found(lab);
        Completion::Completed
    })]
}

fn lacks(program: &&str) -> bool {
    !["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

/// Avahi of one namespace with its bus and what it publishes.
struct Avahi {
    ns: &'static str,
    _processes: Vec<Process>,
}

impl Avahi {
    /// Starts both in a namespace, and publishes a service of this type, with the namespace as its name.
    fn start(ns: &'static str, service: &str) -> Self {
        let folder = format!("/run/lab/avahi-{ns}");
        fs::create_dir_all(&folder).unwrap();
        let bus = format!("unix:path={folder}/bus");
        fs::write(
            format!("{folder}/bus.conf"),
            format!(
                "<busconfig><type>system</type><listen>{bus}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
                 <allow user=\"*\"/><allow own=\"*\"/><allow send_type=\"method_call\"/><allow send_type=\"signal\"/>\
                 <allow send_requested_reply=\"true\"/><allow receive_type=\"method_call\"/>\
                 <allow receive_type=\"signal\"/><allow receive_type=\"method_return\"/><allow receive_type=\"error\"/>\
                 </policy></busconfig>"
            ),
        )
        .unwrap();
        fs::write(
            format!("{folder}/avahi.conf"),
            format!("[server]\nhost-name={ns}\nuse-ipv4=yes\nuse-ipv6=yes\nenable-dbus=yes\n[rlimits]\n"),
        )
        .unwrap();
        let mut processes = vec![start(&mut in_ns(
            ns,
            &bus,
            &format!("exec dbus-daemon --config-file={folder}/bus.conf --nofork --nopidfile"),
        ))];
        let bus_is_there = || fs::metadata(format!("{folder}/bus"));
        until_within(command_patience(), "the bus is there", bus_is_there);
        // Its file with the process id is the same for all.
        let own_run = "mkdir -p /run/avahi-daemon && mount -t tmpfs none /run/avahi-daemon";
        let daemon = format!("exec avahi-daemon -f {folder}/avahi.conf --no-drop-root --no-chroot --no-rlimits");
        processes.push(start(&mut in_ns(ns, &bus, &format!("{own_run} && {daemon}"))));
        let mut avahi = Self { ns, _processes: processes };
        until_within(command_patience(), "Avahi answers", || avahi.browse("_none._tcp").succeeded());
        let publish = format!("exec avahi-publish -s {ns} {service} 8080");
        avahi._processes.push(start(&mut in_ns(ns, &bus, &publish)));
        avahi
    }

    fn browse(&self, service: &str) -> Out {
        let bus = format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/lab/avahi-{}/bus", self.ns);
        let words = ["ip", "netns", "exec", self.ns, "env", &bus, "timeout", "5", "avahi-browse", "-rpt", service];
        command::run_words(&words)
    }

    /// Waits until it finds a service of that type with this name, at this address.
    #[track_caller]
    fn expect(&self, service: &str, name: &str, address: &str) {
        let has = |out: &Out| {
            let mut lines = out.stdout.lines().filter(|line| line.starts_with('='));
            lines.any(|line| line.contains(&format!(";{name};")) && line.contains(&format!(";{address};8080;")))
        };
        until_within(command_patience(), &format!("{} finds {name}", self.ns), || seen(self.browse(service), has));
    }
}

fn command_patience() -> std::time::Duration {
    std::time::Duration::from_secs(30)
}

fn in_ns(ns: &str, bus: &str, line: &str) -> Command {
    let mut command = Command::new("ip");
    // `ip netns exec` has a mount namespace of its own.
    command.args(["netns", "exec", ns, "sh", "-c", line]).env("DBUS_SYSTEM_BUS_ADDRESS", bus);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn found(lab: &Lab) {
    let host = Avahi::start("host", "_ssh._tcp");
    begin(lab, "-o relay=mdns");
    let sockets = run("ip netns exec host ss -Hlnup sport = :5353").ok().stdout;
    assert!(sockets.contains("avahi-daemon"), "{sockets}");
    space::sysctl("web", "net/ipv6/conf/all/disable_ipv6", "0");
    until_relayed(&Peer::new("web", "eth0", MDNS4), &Peer::new("outside", "uplink", MDNS4));
    let (device, web) = (Avahi::start("outside", "_ipp._tcp"), Avahi::start("web", "_http._tcp"));
    let container = lab.address("net1", "web")[0].to_string();
    web.expect("_ipp._tcp", "outside", crate::lab::OUTSIDE4);
    device.expect("_http._tcp", "web", &container);
    // The host's own finds both, and is found: netd takes nothing from it.
    host.expect("_ipp._tcp", "outside", crate::lab::OUTSIDE4);
    host.expect("_http._tcp", "web", &container);
    device.expect("_ssh._tcp", "host", crate::lab::HOST4);
    // Nobody thought that another had its name.
    for avahi in [&host, &device, &web] {
        let out = avahi.browse("_http._tcp").stdout + &avahi.browse("_ipp._tcp").stdout;
        assert!(!out.contains("web-2") && !out.contains("outside-2"), "{out}");
    }
}
