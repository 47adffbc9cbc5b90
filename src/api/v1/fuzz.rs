//! The fuzz target `http`: any bytes as the body of a request. The first byte of the input selects the request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Attach, AttachTogether, CheckAttachment, Connect, CreateNetwork, KeepAttachments, PlanRequest, Reserve,
    attachment_key,
};
use crate::model::Invalid;
use crate::model::names::IfName;
use crate::model::publication::PortSpec;
use crate::model::request::{EndpointSpec, NetworkSpec, Requester, ReservationSpec};
use crate::model::upstream::Upstream;

/// One run of the fuzzer. Panics if a promise is broken.
pub fn attack(input: &[u8]) {
    let Some((request, body)) = input.split_first() else { return };
    match request % 7 {
        0 => _ = read::<CreateNetwork>(body).and_then(|body| valid(NetworkSpec::try_from(body))).map(|it| network(&it)),
        1 => _ = read::<Connect>(body).and_then(|body| valid(body.into_spec("net1"))).map(|it| endpoint(&it)),
        2 => {
            let key = attachment_key("podman", "4f5e", "eth0").unwrap();
            _ = read::<Attach>(body).and_then(|body| valid(body.into_spec(key))).map(|it| endpoint(&it));
            let together = read::<AttachTogether>(body).and_then(|body| valid(body.into_specs("4f5e")));
            together.iter().flatten().for_each(endpoint);
        }
        3 => {
            let key = attachment_key("podman", "4f5e", "eth0").unwrap();
            let spec = read::<CheckAttachment>(body).and_then(|body| valid(body.into_spec(key)));
            assert!(spec.is_none_or(|spec| spec.netns.is_absolute()));
        }
        4 => _ = read::<KeepAttachments>(body),
        5 => _ = read::<Reserve>(body).and_then(|body| valid(body.into_spec("net1"))).map(|it| reservation(&it)),
        _ => plan(body),
    }
}

/// What is read is written such that it is read as the same. What is refused is explained.
fn read<T: DeserializeOwned + Serialize + Debug>(body: &[u8]) -> Option<T> {
    match serde_json::from_slice::<T>(body) {
        Ok(request) => {
            let written = serde_json::to_vec(&request).expect("a request can be sent");
            let again: T = serde_json::from_slice(&written).expect("what was written can be read");
            assert_eq!(serde_json::to_vec(&again).unwrap(), written);
            Some(request)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// A refusal is one line.
fn valid<T>(spec: Result<T, Invalid>) -> Option<T> {
    spec.inspect_err(|error| assert!(!error.to_string().contains(char::is_control), "{error:?}")).ok()
}

fn network(spec: &NetworkSpec) {
    assert!(spec.mtu.is_none_or(|mtu| (68..=65535).contains(&mtu)), "{:?}", spec.mtu);
    servers(&spec.dns.upstreams);
    assert!(!spec.labels.contains_key(""));
    assert!(!spec.isolated || spec.internal, "without an address of the host there is no way out");
    let subnets = spec.subnets.as_slice();
    for (index, one) in subnets.iter().enumerate() {
        assert!(one.gateway.is_none_or(|gateway| one.subnet.contains(gateway)), "{one:?}");
        assert!(one.range.is_none_or(|range| one.subnet.contains(range.network())), "{one:?}");
        assert!(subnets[..index].iter().all(|other| !other.subnet.overlaps(one.subnet)), "{subnets:?}");
    }
}

fn endpoint(spec: &EndpointSpec) {
    assert!(spec.addresses.len() <= 2, "one of each family");
    assert!(spec.addresses.iter().all(|address| !address.ip.is_unspecified() && !address.ip.is_loopback()));
    ports(&spec.ports);
    servers(&spec.upstreams);
    let ifname = spec.ifname.as_ref().map(IfName::as_str);
    assert!(!matches!(ifname, Some("all" | "default")), "{ifname:?}");
    assert!(spec.exposed.iter().all(|exposed| exposed.port > 0));
    for range in &spec.ranges {
        let ends = [range.first, range.last];
        assert!(ends.iter().flatten().all(|end| range.subnet.contains(*end)), "{range:?}");
        assert!(range.first.zip(range.last).is_none_or(|(first, last)| first <= last), "{range:?}");
    }
    if let Requester::Runtime(runtime) = &spec.requester {
        network(&runtime.network);
        assert!(runtime.netns.is_absolute());
    }
}

fn reservation(spec: &ReservationSpec) {
    assert!(spec.addresses.len() <= 2, "one of each family");
    ports(&spec.ports);
}

/// Every port is one that the grammar of `-p` can express, and each is there once.
fn ports(ports: &[PortSpec]) {
    let mut seen = BTreeSet::new();
    for port in ports {
        assert_eq!(port.to_string().parse::<PortSpec>().as_ref(), Ok(port));
        assert!(seen.insert(port.to_string()), "{port} is there twice");
    }
}

fn servers(servers: &[Upstream]) {
    assert!(servers.len() <= 16);
    for (index, server) in servers.iter().enumerate() {
        assert!(!servers[..index].contains(server), "{server} is there twice");
    }
}

fn plan(body: &[u8]) {
    match read::<PlanRequest>(body) {
        Some(PlanRequest::CreateNetwork(request)) => {
            _ = valid(NetworkSpec::try_from(*request)).map(|spec| network(&spec));
        }
        Some(PlanRequest::Connect { network, endpoint: request }) => {
            _ = valid(request.into_spec(&network)).map(|spec| endpoint(&spec));
        }
        Some(PlanRequest::Reserve { network, reservation: request }) => {
            _ = valid(request.into_spec(&network)).map(|spec| reservation(&spec));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::{Duration, Instant};

    /// The largest body of a request, and much more than checking it takes, without optimization.
    const BODY: usize = 1 << 20;
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn bodies_keep_their_promises() {
        netd_testing::inputs::attack("http", super::attack);
    }

    /// Comparing each element of a list with all others took minutes for the largest body.
    #[test]
    fn the_largest_body_is_checked_in_time_whatever_list_fills_it() {
        let tcp_and_udp = |n: usize| format!("\"{}/{}\"", 1 + n / 2 % 65_535, ["tcp", "udp"][n % 2]);
        let subnet = |n: usize| format!("\"10.{}.{}.{}/30\"", n >> 14 & 255, n >> 6 & 255, n << 2 & 255);
        let server = |n: usize| format!("\"10.{}.{}.{}\"", n >> 16 & 255, n >> 8 & 255, n & 255);
        let name = |n: usize| format!("\"a{n}\"");
        let label = |n: usize| format!("\"{n}\":\"\"");
        for (request, begin, element, end) in [
            ("1", r#"{"name":"n","subnets":["#, &subnet as &dyn Fn(usize) -> String, "]}"),
            ("1", r#"{"name":"n","dns":["#, &server, "]}"),
            ("1", r#"{"name":"n","labels":{"#, &label, "}}"),
            ("2", r#"{"container":"c","ports":["#, &tcp_and_udp, "]}"),
            ("2", r#"{"container":"c","aliases":["#, &name, "]}"),
            ("2", r#"{"container":"c","expose":["#, &tcp_and_udp, "]}"),
            ("6", r#"{"id":"r1","ports":["#, &tcp_and_udp, "]}"),
        ] {
            let mut body = format!("{request}{begin}{}", element(0));
            let mut number = 1;
            while body.len() + 32 < BODY {
                write!(body, ",{}", element(number)).unwrap();
                number += 1;
            }
            body.push_str(end);
            let began = Instant::now();
            super::attack(body.as_bytes());
            assert!(began.elapsed() < PATIENCE, "{begin}: {:?}", began.elapsed());
        }
    }
}
