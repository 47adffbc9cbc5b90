//! Descriptive interface names: `nd-NETWORK` for bridges, `ndv-CONTAINER-NETWORK` on the host, `ethN` in the container,
//! `ndN` in a container to which another engine adds interfaces too, `ndp-NETWORK` where netd probes a gateway.

use std::collections::BTreeSet;

use crate::model::endpoint::Endpoint;
use crate::model::names::IfName;

/// Maximum bytes of an interface name (`IFNAMSIZ` - 1).
const ROOM: usize = 15;
/// The beginning of [`staged`] names.
pub const STAGED: &str = "ndc-";
/// Hex digits that distinguish shortened names.
const DIGITS: usize = 4;

/// The bridge's name for a network: `nd-net1`, shortened with a hash if it is too long or taken.
pub fn bridge(network: &str, taken: impl Fn(&IfName) -> bool) -> Option<IfName> {
    named("nd-", &[network], taken)
}

/// The host end's name: `ndv-web-net1`, shortened with a hash if it is too long or taken.
pub fn host_end(container: &str, network: &str, taken: impl Fn(&IfName) -> bool) -> Option<IfName> {
    named("ndv-", &[container, network], taken)
}

/// The name on the host of the container's end of a pair that another engine takes into its container: `ndc-…`, derived
/// from the name of its host end.
#[expect(clippy::expect_used, reason = "a prefix, and a part of an interface name or eight hex digits")]
pub fn staged(host_ifname: &IfName) -> IfName {
    let host_end = host_ifname.as_str();
    let rest = host_end.strip_prefix("ndv-").map_or_else(|| format!("{:08x}", fnv(host_end, 0)), str::to_owned);
    format!("{STAGED}{rest}").parse().expect("a valid interface name")
}

/// The name of the host end through which netd asks a network's gateway itself, for a moment: `ndp-net1`, shortened with
/// a hash if it is too long or taken. No container's interface begins like that.
pub fn stand_in(network: &str, taken: impl Fn(&IfName) -> bool) -> Option<IfName> {
    named("ndp-", &[network], taken)
}

/// The name of the device that limits what an endpoint with this host end sends: `ndb-…`, derived from its name.
#[expect(clippy::expect_used, reason = "a prefix and eight hex digits, or a name with another prefix of its length")]
pub fn limiter(host_ifname: &IfName) -> IfName {
    let host_end = host_ifname.as_str();
    let name = match host_end.strip_prefix("ndv-") {
        Some(rest) => format!("ndb-{rest}"),
        // A host end of another program can have any name.
        None => format!("ndb-{:08x}", fnv(host_end, 0)),
    };
    name.parse().expect("a valid interface name")
}

/// The lowest `ethN` that neither an endpoint of the container nor `avoid` has. Engines number theirs without checking,
/// and fail if the name is taken; in their containers it is therefore `ndN`, which no engine uses.
pub fn in_container<'a>(
    endpoints: impl Iterator<Item = &'a Endpoint>,
    avoid: &BTreeSet<IfName>,
    of_engine: bool,
) -> Option<IfName> {
    let used: BTreeSet<&IfName> = endpoints.map(|endpoint| &endpoint.ifname).collect();
    let prefix = if of_engine { "nd" } else { "eth" };
    let names = (0..10_000).filter_map(|number| format!("{prefix}{number}").parse::<IfName>().ok());
    names.into_iter().find(|name| !used.contains(name) && !avoid.contains(name))
}

fn named(prefix: &str, parts: &[&str], taken: impl Fn(&IfName) -> bool) -> Option<IfName> {
    let whole = format!("{prefix}{}", parts.join("-"));
    let room = ROOM - prefix.len() - 1 - DIGITS;
    let head: String = parts[0].chars().take(room).collect();
    let hashed = (0..64u32).map(|round| format!("{prefix}{head}-{:0DIGITS$x}", fnv(&whole, round) & 0xffff));
    std::iter::once(whole.clone())
        .filter(|name| name.len() <= ROOM)
        .chain(hashed)
        .filter_map(|name| name.parse().ok())
        .find(|name| !taken(name))
}

/// FNV-1a, 32 bits: the same on all versions and machines, so that a name is stable.
fn fnv(text: &str, round: u32) -> u32 {
    text.bytes().fold(0x811c_9dc5 ^ round, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_tell_whose_they_are() {
        let free = |_: &IfName| false;
        assert_eq!(bridge("net1", free).unwrap().as_str(), "nd-net1");
        assert_eq!(host_end("web", "net1", free).unwrap().as_str(), "ndv-web-net1");
        let long = host_end("frontend-server", "production", free).unwrap();
        assert!(long.as_str().starts_with("ndv-fronte-") && long.as_str().len() == ROOM, "{long}");
        let other = host_end("frontend-server", "staging", free).unwrap();
        assert_ne!(long, other);
    }

    #[test]
    fn a_taken_name_gives_another() {
        let taken = bridge("net1", |name| name.as_str() == "nd-net1").unwrap();
        assert!(taken.as_str().starts_with("nd-net1-"), "{taken}");
        let two = bridge("net1", |name| name.as_str() == "nd-net1" || *name == taken).unwrap();
        assert_ne!(two, taken);
    }
}
