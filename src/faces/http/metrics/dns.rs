//! The metrics of the name service: replies and their latency, unanswered messages, connections, upstreams, cache.
//!
//! The labels are bounded: existing networks, types and codes of a fixed list (others are `other`), upstreams in use.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::text::Family;
use crate::engine::dns::names::{Names, UpstreamHealth};
use crate::engine::telemetry::Origin;
use crate::engine::telemetry::meter::{Meter, NetworkCounts, Unanswered};
use crate::model::desired::Desired;

/// The network label of a query without a network.
const NO_NETWORK: &str = "";

pub(super) fn render(text: &mut String, desired: &Desired, meter: &Meter, names: &dyn Names) {
    let networks = meter.networks(desired);
    let named = networks.iter().map(|(name, counts)| (name.as_str(), Arc::as_ref(counts)));
    let all: Vec<(&str, &NetworkCounts)> = named.chain([(NO_NETWORK, meter.elsewhere.as_ref())]).collect();
    queries(text, &all);
    durations(text, meter);
    connections(text, meter);
    upstreams(text, &names.upstreams());
    cache(text, names);
    let help = "Approximate memory of in-flight questions, and of replies that wait for TCP clients.";
    Family::new(text, "netd_dns_waiting_bytes", "gauge", help).add("", &[], names.waiting());
}

fn queries(text: &mut String, all: &[(&str, &NetworkCounts)]) {
    let help = "Replies to queries, by the network whose name server was asked.";
    let mut family = Family::new(text, "netd_dns_queries_total", "counter", help);
    for (network, counts) in all {
        for (kind, code, source, count) in counts.replies() {
            let labels = [("network", *network), ("type", kind), ("rcode", code), ("source", source)];
            family.add("", &labels, count);
        }
    }
    let help = "Messages without a reply: from flooding clients, or not a question.";
    let mut family = Family::new(text, "netd_dns_unanswered_total", "counter", help);
    for (network, counts) in all.iter().filter(|(name, counts)| *name != NO_NETWORK || counts.without_reply() != [0; 2])
    {
        for (reason, count) in Unanswered::WORDS.into_iter().zip(counts.without_reply()) {
            family.add("", &[("network", network), ("reason", reason)], count);
        }
    }
    let help = "Queries answered with SERVFAIL at once because a limit was reached; part of netd_dns_queries_total.";
    let mut family = Family::new(text, "netd_dns_shed_total", "counter", help);
    for (network, counts) in all.iter().filter(|(name, counts)| *name != NO_NETWORK || counts.shed_so_far() > 0) {
        family.add("", &[("network", network)], counts.shed_so_far());
    }
}

fn durations(text: &mut String, meter: &Meter) {
    let help = "Time from the arrival of a query until its reply was ready.";
    let mut family = Family::new(text, "netd_dns_query_duration_seconds", "histogram", help);
    for (source, histogram) in Origin::WORDS.into_iter().zip(meter.durations()) {
        let mut count = 0;
        for (end, so_far) in histogram.buckets() {
            let end = end.map_or("+Inf".to_owned(), |end| end.to_string());
            family.add("_bucket", &[("source", source), ("le", &end)], so_far);
            count = so_far;
        }
        family.add("_sum", &[("source", source)], histogram.seconds());
        family.add("_count", &[("source", source)], count);
    }
}

fn connections(text: &mut String, meter: &Meter) {
    for (name, kind, help, count) in [
        ("netd_dns_tcp_connections", "gauge", "TCP connections that are open now.", &meter.tcp.open),
        (
            "netd_dns_tcp_refused_total",
            "counter",
            "TCP connections that were closed at once because too many were open.",
            &meter.tcp.refused,
        ),
        (
            "netd_dns_tcp_dismissed_total",
            "counter",
            "TCP connections that were closed while idle, to make room for others.",
            &meter.tcp.dismissed,
        ),
    ] {
        Family::new(text, name, kind, help).add("", &[], count.load(Ordering::Relaxed));
    }
}

/// A family of samples, one for each upstream.
type Column = (&'static str, &'static str, &'static str, fn(&UpstreamHealth) -> Option<f64>);

/// The counts are far below the numbers that a float cannot represent exactly.
#[expect(clippy::cast_precision_loss, reason = "counts of queries stay below 2^53")]
fn count(count: u64) -> Option<f64> {
    Some(count as f64)
}

fn upstreams(text: &mut String, all: &[UpstreamHealth]) {
    let columns: [Column; 6] = [
        ("netd_dns_upstream_queries_total", "counter", "Queries sent to the upstream.", |u| count(u.asked)),
        ("netd_dns_upstream_answers_total", "counter", "Answers of the upstream, NXDOMAIN included.", |u| {
            count(u.answered)
        }),
        (
            "netd_dns_upstream_failures_total",
            "counter",
            "Queries that the upstream refused or answered with a failure.",
            |u| count(u.failed),
        ),
        ("netd_dns_upstream_timeouts_total", "counter", "Queries that the upstream did not answer in time.", |u| {
            count(u.silent)
        }),
        ("netd_dns_upstream_rtt_seconds", "gauge", "Smoothed round-trip time of the upstream.", |u| {
            u.rtt.map(|rtt| rtt.as_secs_f64())
        }),
        (
            "netd_dns_upstream_healthy",
            "gauge",
            "Whether the upstream is healthy and asked in its turn; 0: it did not answer recently.",
            |u| Some(f64::from(u8::from(u.healthy))),
        ),
    ];
    for (name, kind, help, value) in columns {
        let mut family = Family::new(text, name, kind, help);
        for upstream in all {
            if let Some(value) = value(upstream) {
                family.add("", &[("server", &upstream.server)], value);
            }
        }
    }
}

fn cache(text: &mut String, names: &dyn Names) {
    let Some(cache) = names.cache() else { return };
    for (name, kind, help, value) in [
        ("netd_dns_cache_entries", "gauge", "Cached answers of upstreams.", cache.entries),
        ("netd_dns_cache_bytes", "gauge", "Approximate memory of the cached answers.", cache.bytes),
        ("netd_dns_cache_hits_total", "counter", "Questions answered from the cache.", cache.hits),
        ("netd_dns_cache_misses_total", "counter", "Questions not answered from the cache.", cache.misses),
    ] {
        Family::new(text, name, kind, help).add("", &[], value);
    }
}
