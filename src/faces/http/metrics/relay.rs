//! The counters of the relay of discovery.

use super::text::Family;
use crate::engine::telemetry::Relays;

pub(super) fn render(text: &mut String, relays: &Relays) {
    let help = "Messages of discovery between a network and other interfaces, by what became of them.";
    let mut family = Family::new(text, "netd_relay_packets_total", "counter", help);
    for (network, counts) in relays.all() {
        for ([protocol, direction, result], count) in counts.all() {
            let labels =
                [("network", network.as_str()), ("protocol", protocol), ("direction", direction), ("result", result)];
            family.add("", &labels, count);
        }
    }
}
