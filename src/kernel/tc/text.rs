//! Describes how the limits of an interface differ from the target.

use super::ObservedLimits;
use super::wire::{Bucket, Qdisc, TBF};
use crate::model::bandwidth::{Rate, Shaping};
use crate::model::host::observed::ObservedKind;

/// `None` if they match.
pub(in crate::kernel) fn difference(found: &ObservedLimits, shaping: &Shaping) -> Option<String> {
    let target = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, shaping.mtu));
    let name = shaping.host_ifname.as_str();
    bucket(name, found.root.as_ref(), target(shaping.bandwidth.ingress))
        .or_else(|| egress(found, shaping, target(shaping.bandwidth.egress)))
}

fn egress(found: &ObservedLimits, shaping: &Shaping, target: Option<Bucket>) -> Option<String> {
    let (host, ifb) = (shaping.host_ifname.as_str(), shaping.ifb.as_str());
    let (link, root) = match (&found.ifb, target) {
        (None, None) => return None,
        (None, Some(_)) => return Some(format!("the intermediate device {ifb} of {host} is gone")),
        (Some((link, _)), None) if link.ours() => {
            return Some(format!("{host} has an intermediate device {ifb} without a limit for it"));
        }
        (Some(_), None) => return None,
        (Some((link, root)), Some(_)) => (link, root.as_ref()),
    };
    if !link.ours() || link.kind != ObservedKind::Ifb {
        return Some(format!("{ifb} is not an intermediate device of netd"));
    }
    if !link.up {
        return Some(format!("the intermediate device {ifb} of {host} is down"));
    }
    if link.mtu != shaping.mtu {
        return Some(format!("the intermediate device {ifb} has an MTU of {} instead of {}", link.mtu, shaping.mtu));
    }
    if !found.redirected() {
        return Some(format!("incoming traffic of {host} is not redirected to the intermediate device {ifb}"));
    }
    bucket(ifb, root, target)
}

fn bucket(name: &str, root: Option<&Qdisc>, target: Option<Bucket>) -> Option<String> {
    let Some(target) = target else {
        let limited = root.is_some_and(Qdisc::ours);
        return limited.then(|| format!("{name} is limited and must not be"));
    };
    match root.and_then(|root| root.bucket) {
        Some(shown) if target.is(shown) => None,
        Some(shown) => Some(format!("{name} is limited to {} instead of {}", words(shown), words(target))),
        None => {
            let kind = root.map_or("nothing", |root| root.kind.as_str());
            Some(format!("{name} is not limited: it has {kind} instead of {TBF}"))
        }
    }
}

fn words(bucket: Bucket) -> String {
    format!(
        "{} bit/s with bursts of {} bytes and {} bytes waiting",
        u128::from(bucket.rate) * 8,
        bucket.burst(),
        bucket.limit
    )
}
