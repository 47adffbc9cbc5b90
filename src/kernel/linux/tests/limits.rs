//! Notifications of limits.

use super::*;
use crate::model::bandwidth::{Bandwidth, Rate, Shaping};
use crate::model::host::step::EndpointLink;

/// The kernel notifies everybody of a limit that somebody reads: netd read its limits, was notified, and read again, ten
/// times a second for as long as a container had limits.
#[test]
fn reading_limits_is_no_event() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24"]))).unwrap();
        let container = Parked::new();
        let mut link = endpoint(&container, 2);
        kernel.apply(&attach(&link)).unwrap();
        let shaping = limited(&mut link);
        kernel.apply(&Step::Shape(Box::new(shaping.clone()))).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        kernel.monitor(Box::new(move |event| sender.send(event).unwrap_or(()))).unwrap();
        assert_eq!(kernel.shaping_differs(&shaping).unwrap(), None);
        // Reported at the end of the same window, after what changed of netd's links.
        let other = Parked::new();
        ip(&format!("link add veth7 type veth peer name eth0 netns {}", other.path.display()));
        let next = || receiver.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(next(), KernelEvent::LinksChanged);
        tc(&format!("qdisc del dev {} root", shaping.host_ifname));
        assert_eq!(next(), KernelEvent::Changed, "another program changed them");
    });
}

/// Another program removed limits right after netd had set them, and they were missing for ten seconds.
#[test]
fn limits_that_vanish_while_the_pair_is_made_are_an_event() {
    in_own_netns(|| {
        let mut kernel = Linux::new().unwrap();
        kernel.apply(&Step::AddBridge(bridge(&["10.77.0.1/24"]))).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        kernel.monitor(Box::new(move |event| sender.send(event).unwrap_or(()))).unwrap();
        let container = Parked::new();
        let mut link = endpoint(&container, 2);
        kernel.apply(&attach(&link)).unwrap();
        let host_end = pair(&mut link).host_ifname.clone();
        kernel.apply(&Step::Shape(Box::new(limited(&mut link)))).unwrap();
        tc(&format!("qdisc del dev {host_end} root"));
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(KernelEvent::Changed));
    });
}

fn limited(link: &mut EndpointLink) -> Shaping {
    let rate = Rate::new("limit", Some(8_000_000), Some(800_000)).unwrap();
    Shaping {
        network: link.network.clone(),
        container: link.container.clone(),
        host_ifname: pair(link).host_ifname.clone(),
        ifb: "ndi-2".parse().unwrap(),
        mtu: link.mtu,
        bandwidth: Bandwidth { ingress: rate, egress: None },
    }
}
