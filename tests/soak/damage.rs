//! What other programs change, and how soon it is as before.

use std::time::{Duration, Instant};

use crate::lab::command::run_words;
use crate::world::World;

/// The longest healing of what notifications tell, and of what the look every ten seconds finds.
const PATIENCE: Duration = Duration::from_secs(15);

/// Words: `BRIDGE`, `GATEWAY` with its length and `SUBNET` of a network, `END` the host end of a container on it, `IN`
/// enters the container, `IF` is its interface, `FILE` its resolv.conf.
const CHANGES: &[&str] = &[
    "ip netns exec host nft flush ruleset",
    "ip netns exec host nft delete table inet netd",
    "ip netns exec host nft flush set inet netd bridges",
    "ip netns exec host nft flush map inet netd publish4",
    "ip -n host link set BRIDGE name br9",
    "ip -n host link set BRIDGE down",
    "ip -n host link set BRIDGE mtu 1300",
    "ip -n host link set BRIDGE mtu 576",
    "ip -n host link set BRIDGE address 02:00:00:00:00:99",
    "ip -n host link set BRIDGE group default",
    "ip -n host link delete BRIDGE",
    "ip -n host address flush dev BRIDGE",
    "ip -n host address del GATEWAY dev BRIDGE",
    "ip -n host route del SUBNET dev BRIDGE",
    "ip netns exec host sysctl -qw net.ipv4.ip_forward=0",
    "ip -n host link set END name veth9",
    "ip -n host link set END nomaster",
    "ip -n host link set END down",
    "ip -n host link set END mtu 1300",
    "ip -n host link delete END",
    "IN ip link delete IF",
    "IN ip address flush dev IF",
    "IN ip route flush exact default",
    "IN ip route flush table main",
    "IN sh -c 'ip -6 route flush table main'",
    "IN ip link set IF down",
    "IN sh -c 'ip link set IF down; ip link set IF up'",
    "IN ip link set IF mtu 1300",
    "IN ip link set lo down",
    "rm FILE",
];

/// What they change, as foreign programs show it.
const SHOWN: &str = "ip -n host -o link show BRIDGE; ip -n host -o address show dev BRIDGE scope global; \
    ip -n host route show dev BRIDGE; ip -n host -br link show END; ip -n host -o link show END; \
    IN ip -o link show; IN ip -o address show scope global; IN ip route show; IN ip -6 route show default; \
    ip netns exec host sysctl net.ipv4.ip_forward; cat FILE; ip netns exec host nft -s list table inet netd";

/// One change, and the words of it and of what shows it.
pub(crate) struct Change {
    line: String,
    shown: String,
}

/// A change that is possible now.
pub(crate) fn draw(world: &mut World<'_>) -> Option<Change> {
    let pairs: Vec<_> = world.ends.keys().cloned().collect();
    let pair = world.chance.pick(&pairs)?;
    let line = world.chance.pick(CHANGES)?;
    let (net, end, guest) = (&world.nets[&pair.0], &world.ends[&pair], &world.guests[&pair.1]);
    if line.contains("FILE") && !guest.named {
        return None;
    }
    let subnet = net.subnets.iter().find(|subnet| subnet.contains('.'))?;
    let gateway = net.gateways.iter().find(|gateway| gateway.contains('.'))?;
    let gateway = format!("{gateway}/{}", subnet.split('/').nth(1)?);
    let fill = |text: &str| {
        text.replace("BRIDGE", &net.bridge)
            .replace("GATEWAY", &gateway)
            .replace("SUBNET", subnet)
            .replace("END", &end.host_ifname)
            .replace("FILE", &format!("/etc/netns/{}/resolv.conf", pair.1))
            .replace("IN ", &format!("nsenter --net={} ", guest.path))
            .replace("IF", &end.ifname)
    };
    Some(Change { line: fill(line), shown: fill(SHOWN) })
}

impl Change {
    /// Makes the change; the commands of a daemon that is dead need nothing more.
    pub(crate) fn make(&self, world: &mut World<'_>) {
        if !world.doing.is_empty() {
            world.doing += "; ";
        }
        world.doing += &self.line;
        if self.line.contains("nft ") {
            world.tally.flushes += 1;
        }
        let out = run_words(&["sh", "-c", &self.line]);
        assert_eq!(out.code, Some(0), "{out:?}");
    }

    /// Makes the change, and waits until all is as before.
    pub(crate) fn heal(&self, world: &mut World<'_>) {
        let before = self.look();
        let start = Instant::now();
        self.make(world);
        loop {
            let now = self.look();
            if now == before {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{}: not as before:\n{now}\nbut\n{before}", world.doing);
        }
        let healed =
            if self.line.starts_with("rm ") { &mut world.tally.healed_by_look } else { &mut world.tally.healed };
        healed.push(start.elapsed());
    }

    /// Sorted, and without what moves by itself: indices and order of links and elements that were made anew, and what
    /// follows the carrier.
    fn look(&self) -> String {
        let text = run_words(&["sh", "-c", &self.shown]).stdout;
        // One element a line, however nft breaks them.
        let parts = text.lines().flat_map(|line| line.trim_start_matches("\t\telements = { ").split(", "));
        let mut lines: Vec<String> = parts.map(normal).collect();
        lines.sort();
        lines.join("\n")
    }
}

fn normal(line: &str) -> String {
    let moves = ["nodad", "linkdown", "tentative"];
    let words = line.trim_end_matches([',', '}', ' ']).split_whitespace().filter(|word| !moves.contains(word));
    let words = words.map(|word| word.trim_start_matches(|c: char| c.is_ascii_digit()).split('@').next());
    words.map(Option::unwrap_or_default).collect::<Vec<_>>().join(" ")
}
