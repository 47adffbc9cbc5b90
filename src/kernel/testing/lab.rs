//! Test help: a thread in its own network namespace that represents the host, further namespaces that represent
//! containers, and the links between them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;

use netd_testing::wait::{PATIENCE, is, within};
use nix::sched::{CloneFlags, unshare};

use crate::kernel::netns::identify;
use crate::model::address::Mac;
use crate::model::host::step::{BridgeLink, EndpointLink, LinkKind, Step, VethPair};

/// Runs `test` on a thread in a fresh network namespace; a panic there fails the test.
pub(in crate::kernel) fn in_own_netns(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A network namespace, held by a parked thread until it is dropped.
pub(in crate::kernel) struct Parked {
    /// The path of the namespace while the thread lives.
    pub(in crate::kernel) path: PathBuf,
    commands: Option<mpsc::Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Parked {
    /// A fresh namespace.
    pub(in crate::kernel) fn new() -> Self {
        let (path, receiver) = mpsc::channel();
        let (commands, jobs) = mpsc::channel::<Job>();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
            let (pid, tid) = (std::process::id(), nix::unistd::gettid());
            path.send(PathBuf::from(format!("/proc/{pid}/task/{tid}/ns/net"))).expect("the test waits");
            jobs.into_iter().for_each(|job| job());
        });
        Self { path: receiver.recv().expect("the thread lives"), commands: Some(commands), thread: Some(thread) }
    }

    /// Runs a job in the namespace.
    pub(in crate::kernel) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, answer) = mpsc::channel();
        let job = Box::new(move || sender.send(job()).expect("the test waits"));
        self.commands.as_ref().expect("held until drop").send(job).expect("the thread lives");
        answer.recv().expect("the job ran")
    }

    /// `ip -j ARGS` in the namespace, as a value.
    pub(in crate::kernel) fn ip(&self, arguments: &str) -> serde_json::Value {
        let arguments = arguments.to_owned();
        self.run(move || ip(&arguments))
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.commands.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
            // The kernel wakes the joining thread a moment before this thread leaves /proc.
            let _ = within(PATIENCE, || is(self.path.exists(), &false));
        }
    }
}

/// `ip -j ARGS` in the calling thread's namespace, as a value; null when it prints nothing.
pub(in crate::kernel) fn ip(arguments: &str) -> serde_json::Value {
    json("ip", arguments)
}

/// `tc -j ARGS` in the calling thread's namespace, as a value; null when it prints nothing.
pub(in crate::kernel) fn tc(arguments: &str) -> serde_json::Value {
    json("tc", arguments)
}

fn json(program: &str, arguments: &str) -> serde_json::Value {
    let output =
        Command::new(program).arg("-j").args(arguments.split_whitespace()).output().expect("iproute2 is there");
    assert!(output.status.success(), "{program} -j {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// A bridge `nd-net1` of `net1`.
pub(in crate::kernel) fn bridge(addresses: &[&str]) -> BridgeLink {
    BridgeLink {
        network: "net1".parse().unwrap(),
        name: "nd-net1".parse().unwrap(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        virtual_addresses: std::collections::BTreeSet::new(),
        mtu: 1400,
    }
}

/// `eth0` of `web`, a port of that bridge, with the address 10.77.0.NUMBER.
pub(in crate::kernel) fn endpoint(container: &Parked, number: u16) -> EndpointLink {
    let address = format!("10.77.{}.{}", number >> 8, number & 0xff);
    EndpointLink {
        network: "net1".parse().unwrap(),
        container: "web".parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
        netns: identify(&container.path).unwrap(),
        mac: Mac::for_address(address.parse().unwrap()),
        mtu: 1400,
        addresses: vec![format!("{address}/24").parse().unwrap()],
        routes: Vec::new(),
        default_gateways: vec!["10.77.0.1".parse().unwrap()],
        default_metric: None,
        kind: LinkKind::Veth(VethPair {
            bridge: "nd-net1".parse().unwrap(),
            host_ifname: format!("ndv-{number}").parse().unwrap(),
            isolated: false,
            vlan: None,
        }),
    }
}

/// What the link has on the host.
pub(in crate::kernel) fn pair(link: &mut EndpointLink) -> &mut VethPair {
    link.kind.pair_mut().unwrap()
}

/// The attach step of the link.
pub(in crate::kernel) fn attach(link: &EndpointLink) -> Step {
    Step::Attach(Box::new(link.clone()))
}

/// The global addresses that `ip -j address` shows.
pub(in crate::kernel) fn addresses(shown: &serde_json::Value) -> Vec<String> {
    let infos = shown[0]["addr_info"].as_array().unwrap();
    let global = infos.iter().filter(|info| info["scope"] == "global");
    global.map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"])).collect()
}

/// A setting of the calling thread's namespace.
pub(in crate::kernel) fn sysctl_value(path: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim().to_owned()
}
