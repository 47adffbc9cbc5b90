//! Limits in separate namespaces, observed through `tc -j` and `ip -j`, and with a datagram that passes them.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::kernel::host::facts;
use crate::kernel::host::interfaces::Interfaces;
use crate::kernel::testing::lab::{Parked, in_own_netns, ip, tc};
use crate::model::bandwidth::{Bandwidth, Rate};

struct Lab {
    netlink: Netlink,
    sysctl: Sysctl,
    container: Parked,
}

impl Lab {
    /// A pair from the host (`ndv-2`, 192.0.2.1) into a container (`eth0`, 192.0.2.2).
    fn new() -> Self {
        let container = Parked::new();
        ip(&format!("link add ndv-2 mtu 1400 type veth peer name eth0 mtu 1400 netns {}", container.path.display()));
        ip("address add 192.0.2.1/24 dev ndv-2");
        ip("link set ndv-2 up");
        container.ip("address add 192.0.2.2/24 dev eth0");
        container.ip("link set eth0 up");
        Self { netlink: Netlink::open().unwrap(), sysctl: Sysctl::open(), container }
    }

    fn limit(&mut self, shaping: &Shaping) -> Result<(), KernelError> {
        limit(&mut self.netlink, &self.sysctl, shaping)
    }

    fn unshape(&mut self, shaping: &Shaping) {
        unshape(&mut self.netlink, &[shaping.interface()]).unwrap();
    }

    fn differs(&mut self, shaping: &Shaping) -> Option<String> {
        differs(&mut self.netlink, shaping).unwrap()
    }
}

/// Rates in bits per second and bursts in bits.
fn shaping(ingress: Option<(u64, u64)>, egress: Option<(u64, u64)>) -> Shaping {
    let rate =
        |limit: Option<(u64, u64)>| Rate::new("limit", limit.map(|limit| limit.0), limit.map(|limit| limit.1)).unwrap();
    Shaping {
        network: "net1".parse().unwrap(),
        container: "web".parse().unwrap(),
        host_ifname: "ndv-2".parse().unwrap(),
        ifb: "ndi-2".parse().unwrap(),
        mtu: 1400,
        bandwidth: Bandwidth { ingress: rate(ingress), egress: rate(egress) },
    }
}

/// Kind, rate in bytes per second and burst in bytes of the discipline for what the interface sends.
fn root(interface: &str) -> (String, u64, u64) {
    let shown = tc(&format!("qdisc show dev {interface}"));
    let root = shown.as_array().unwrap().iter().find(|qdisc| qdisc["root"] == true).unwrap();
    let option = |name: &str| root["options"][name].as_u64().unwrap_or_default();
    (root["kind"].as_str().unwrap().to_owned(), option("rate"), option("burst"))
}

fn has_ingress() -> bool {
    tc("qdisc show dev ndv-2").as_array().unwrap().iter().any(|qdisc| qdisc["kind"] == "ingress")
}

/// The interfaces that filters on `ndv-2` redirect to, as actions show them.
fn redirects() -> Vec<Value> {
    let filters = tc("filter show dev ndv-2 ingress");
    let filters = filters.as_array().cloned().unwrap_or_default();
    let actions = filters.iter().filter_map(|filter| filter["options"]["actions"].as_array());
    actions.flatten().filter(|action| action["mirred_action"] == "redirect").cloned().collect()
}

fn links() -> Vec<String> {
    ip("link show").as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn both_directions_are_limited_and_set_free() {
    in_own_netns(|| {
        let mut lab = Lab::new();
        let target = shaping(Some((8_000_000, 800_000)), Some((16_000_000, 1_600_000)));
        assert_eq!(lab.differs(&target).unwrap(), "ndv-2 is not limited: it has noqueue instead of tbf");
        for _ in 0..2 {
            lab.limit(&target).unwrap();
            assert_eq!(root("ndv-2"), ("tbf".into(), 1_000_000, 100_000));
            assert_eq!(root("ndi-2"), ("tbf".into(), 2_000_000, 200_000));
            let redirects = redirects();
            assert_eq!(redirects.len(), 1, "{redirects:?}");
            assert_eq!((&redirects[0]["to_dev"], &redirects[0]["direction"]), (&"ndi-2".into(), &"egress".into()));
            assert_eq!(lab.differs(&target), None);
        }
        let ifb = ip("-d address show ndi-2");
        assert_eq!((&ifb[0]["mtu"], &ifb[0]["group"]), (&1400.into(), &"28260".into()));
        assert_eq!(ifb[0]["ifalias"], "netd: web on net1 (limits)");
        assert!(ifb[0]["flags"].as_array().unwrap().contains(&"UP".into()));
        assert_eq!(ifb[0]["addr_info"].as_array().unwrap().len(), 0, "no address of its own");
        let observed = {
            let interfaces = Interfaces::read(&mut lab.netlink).unwrap();
            facts::links(&mut lab.netlink, &lab.sysctl, interfaces).unwrap()
        };
        let observed = &observed[&target.ifb];
        assert!(observed.ours && observed.up && observed.kind == ObservedKind::Ifb, "{observed:?}");

        assert_eq!(limited(&mut lab.netlink).unwrap(), [target.host_ifname.clone()].into(), "not the device");
        for _ in 0..2 {
            lab.unshape(&target);
            assert_eq!(limited(&mut lab.netlink).unwrap(), BTreeSet::new());
            assert_eq!(root("ndv-2").0, "noqueue");
            assert!(!has_ingress());
            assert_eq!(links(), ["lo", "ndv-2"]);
        }
        assert!(lab.differs(&target).is_some());
        lab.limit(&target).unwrap();
        ip("link delete ndv-2");
        assert_eq!(lab.differs(&target).unwrap(), "interface ndv-2 is gone");
        lab.unshape(&target);
        assert_eq!(links(), ["lo"]);
        let error = lab.limit(&target).unwrap_err().to_string();
        assert!(error.contains("ndv-2"), "{error}");
        assert_eq!(links(), ["lo"]);
    });
}

#[test]
fn other_limits_take_their_place() {
    in_own_netns(|| {
        let mut lab = Lab::new();
        lab.limit(&shaping(Some((8_000_000, 800_000)), Some((16_000_000, 1_600_000)))).unwrap();
        let ingress_only = shaping(Some((4_000_000, 400_000)), None);
        assert!(
            lab.differs(&ingress_only).unwrap().starts_with("ndv-2 is limited to 8000000 bit/s with bursts of 1000")
        );
        lab.limit(&ingress_only).unwrap();
        assert_eq!(root("ndv-2"), ("tbf".into(), 500_000, 50_000));
        assert!(!has_ingress());
        assert_eq!(links(), ["lo", "ndv-2"]);
        let egress_only = shaping(None, Some((4_000_000, 400_000)));
        assert_eq!(lab.differs(&egress_only).unwrap(), "ndv-2 is limited and must not be");
        lab.limit(&egress_only).unwrap();
        assert_eq!((root("ndv-2").0, redirects().len()), ("noqueue".into(), 1));
        assert_eq!(lab.differs(&egress_only), None);
        assert!(lab.differs(&ingress_only).is_some());
    });
}

#[test]
fn what_somebody_changed_is_told_and_put_right() {
    in_own_netns(|| {
        let mut lab = Lab::new();
        let target = shaping(Some((8_000_000, 800_000)), Some((16_000_000, 1_600_000)));
        lab.limit(&target).unwrap();
        for (command, part) in [
            (
                "tc qdisc change dev ndv-2 handle 6e64: root tbf rate 9mbit burst 100000 latency 25ms",
                "ndv-2 is limited to 9",
            ),
            ("tc qdisc change dev ndv-2 handle 6e64: root tbf rate 8mbit burst 90000 latency 25ms", "bursts of 90000"),
            ("tc qdisc delete dev ndv-2 root", "ndv-2 is not limited"),
            (
                "tc qdisc delete dev ndv-2 root; tc qdisc add dev ndv-2 root handle 6e64: htb",
                "ndv-2 is not limited: it has htb",
            ),
            ("tc qdisc replace dev ndv-2 root handle 1: htb", "ndv-2 is not limited: it has htb"),
            ("tc qdisc delete dev ndi-2 root", "ndi-2 is not limited"),
            ("tc filter delete dev ndv-2 ingress", "incoming traffic of ndv-2 is not redirected"),
            ("tc qdisc delete dev ndv-2 ingress", "incoming traffic of ndv-2 is not redirected"),
            ("ip link set ndi-2 down", "ndi-2 of ndv-2 is down"),
            ("ip link set ndi-2 mtu 1300", "ndi-2 has an MTU of 1300 instead of 1400"),
            ("ip link delete ndi-2", "the intermediate device ndi-2 of ndv-2 is gone"),
        ] {
            for command in command.split("; ") {
                let (program, arguments) = command.split_once(' ').unwrap();
                if program == "ip" {
                    ip(arguments)
                } else {
                    tc(arguments)
                };
            }
            let difference = lab.differs(&target).unwrap_or_default();
            assert!(difference.contains(part), "after {command}: {difference:?}");
            lab.limit(&target).unwrap();
            assert_eq!(lab.differs(&target), None, "after {command}");
            assert_eq!(redirects().len(), 1, "after {command}");
        }
    });
}

#[test]
fn what_cannot_be_limited_stays_as_it_was() {
    in_own_netns(|| {
        let mut lab = Lab::new();
        let target = shaping(Some((8_000_000, 800_000)), Some((16_000_000, 1_600_000)));
        ip("link add ndi-2 type bridge");
        let error = lab.limit(&target).unwrap_err().to_string();
        assert!(error.starts_with("interface ndi-2 already exists in the host"), "{error}");
        assert_eq!((root("ndv-2").0.as_str(), has_ingress()), ("noqueue", false));
        lab.unshape(&target);
        assert_eq!(links(), ["lo", "ndv-2", "ndi-2"], "somebody else's");
        ip("link delete ndi-2");

        // The kernel has one protocol per priority.
        tc("qdisc add dev ndv-2 ingress");
        tc("filter add dev ndv-2 ingress pref 1 protocol ip u32 match u32 0 0");
        let error = lab.limit(&target).unwrap_err().to_string();
        assert!(error.starts_with("redirect incoming traffic of ndv-2: Invalid argument"), "{error}");
        assert_eq!(root("ndv-2").0, "noqueue");
        assert_eq!(links(), ["lo", "ndv-2"]);
        assert!(has_ingress(), "it carries somebody else's filter");
        lab.unshape(&target);
        assert!(has_ingress(), "it carries somebody else's filter");

        tc("filter delete dev ndv-2 ingress");
        lab.limit(&target).unwrap();
        tc("filter delete dev ndv-2 ingress");
        tc("filter add dev ndv-2 ingress pref 1 protocol ip u32 match u32 0 0");
        lab.limit(&shaping(Some((4_000_000, 400_000)), Some((4_000_000, 400_000)))).unwrap_err();
        assert_eq!((root("ndv-2").1, root("ndi-2")), (1_000_000, ("tbf".into(), 2_000_000, 200_000)));
    });
}

#[test]
fn extremes_are_kept() {
    in_own_netns(|| {
        let mut lab = Lab::new();
        for (rate, burst, shown) in [
            (8, 8, (1, 0)),
            (8_000, 1 << 20, (1000, 131_072)),
            // The burst that containerd passes.
            (10_000_000, u64::from(u32::MAX), (1_250_000, 0)),
            (80_000_000, u64::from(u32::MAX), (10_000_000, u64::from(u32::MAX) / 8)),
            (100_000_000_000, 8_000_000, (12_500_000_000, 1_000_000)),
            (800_000_000_000, (1 << 35) - 8, (100_000_000_000, u64::from(u32::MAX))),
        ] {
            let target = shaping(Some((rate, burst)), Some((rate, burst)));
            lab.limit(&target).unwrap();
            assert_eq!(lab.differs(&target), None, "{rate} {burst}");
            for interface in ["ndv-2", "ndi-2"] {
                let (_, rate, burst) = root(interface);
                assert_eq!(rate, shown.0, "{interface}");
                // `tc` computes it from a time in microseconds, which does not fit into its 32 bits for the slowest.
                let near = burst.abs_diff(shown.1) <= shown.1 / 1000 + rate / 1_000_000 + 1;
                assert!(near || shown.1 == 0, "{interface}: {burst}, not {}", shown.1);
            }
        }
    });
}

/// Sends the largest packet until it arrives, and returns its length. The kernel drops what is sent before it has
/// noticed that a new pair is up, which takes a moment on a busy machine.
fn arrives(from: &UdpSocket, to: &UdpSocket, address: &str) -> usize {
    to.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut tries = (0..20).map(|_| {
        from.send_to(&[1; 1372], address).unwrap();
        to.recv_from(&mut [0; 2000])
    });
    tries.find_map(Result::ok).expect("the packet arrives").0
}

#[test]
fn the_largest_packet_passes_the_smallest_bucket() {
    in_own_netns(|| {
        let mut lab = Lab::new();
        lab.limit(&shaping(Some((8_000_000, 8)), Some((8_000_000, 8)))).unwrap();
        let host = UdpSocket::bind("192.0.2.1:7").unwrap();
        let inside = lab.container.run(|| UdpSocket::bind("192.0.2.2:7").unwrap());
        assert_eq!(arrives(&inside, &host, "192.0.2.1:7"), 1372);
        assert_eq!(arrives(&host, &inside, "192.0.2.2:7"), 1372);
        for limited in ["ndi-2", "ndv-2"] {
            let shown = tc(&format!("-s qdisc show dev {limited}"));
            assert!(shown[0]["bytes"].as_u64().unwrap() >= 1400, "{shown}");
            assert_eq!(shown[0]["drops"], 0, "{limited}");
        }
    });
}

#[test]
fn what_the_kernel_lacks_is_named() {
    let unknown = |needs: Needs, errno| {
        let error = NetlinkError { errno, text: None };
        needs.refused("limit", "ndv-2")(error).to_string()
    };
    assert!(unknown(Needs::Tbf, libc::ENOENT).contains("modprobe sch_tbf"));
    assert!(unknown(Needs::Ifb, libc::EOPNOTSUPP).contains("modprobe ifb"));
    assert!(!unknown(Needs::Ifb, libc::EPERM).contains("modprobe"));
}

#[test]
fn only_limits_of_netd_are_seen() {
    in_own_netns(|| {
        let mut lab = Lab::new();
        assert_eq!(limited(&mut lab.netlink).unwrap(), BTreeSet::new());
        ip("link add ifb9 type ifb");
        tc("qdisc add dev ndv-2 root tbf rate 8mbit burst 100kb latency 25ms");
        tc("qdisc add dev ndv-2 ingress");
        // As netd's own, but to a device of another program.
        let filter = "protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev ifb9";
        tc(&format!("filter add dev ndv-2 parent ffff: {filter}"));
        assert_eq!(limited(&mut lab.netlink).unwrap(), BTreeSet::new(), "another program's");
        tc("qdisc del dev ndv-2 root");
        tc("qdisc del dev ndv-2 ingress");
        for target in [shaping(Some((8_000_000, 800_000)), None), shaping(None, Some((8_000_000, 800_000)))] {
            lab.limit(&target).unwrap();
            assert_eq!(limited(&mut lab.netlink).unwrap(), [target.host_ifname.clone()].into(), "{target:?}");
            lab.unshape(&target);
        }
    });
}
