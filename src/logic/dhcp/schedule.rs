//! When a client asks, and what (RFC 2131, 4.4.5). Times are in seconds since the boot.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::model::lease::{Dhcp, Lease};

/// Between two attempts in the same phase, at least.
const REST: u64 = 60;
/// Between two attempts, whatever a server says.
const LEAST: u64 = 1;

/// How long to ask, at most, once frames can pass.
const SPAN: u64 = 10;
/// How long to ask in any case: callers wait a minute for their replies (`faces::shared::client`).
const LONGEST: u64 = 50;

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A first address, preferably this one.
    Any(Option<Ipv4Addr>),
    /// More time, of the server of the lease.
    Renew(Lease),
    /// More time, of any server.
    Rebind(Lease),
    /// An address, after the lease has ended.
    Anew(Lease),
}

/// What is to be asked for at that time; `None`: nothing, the lease has no end.
pub fn ask(dhcp: &Dhcp, now: u64) -> Option<Ask> {
    let Some(lease) = &dhcp.lease else { return Some(Ask::Any(dhcp.former)) };
    let ends = lease.ends()?;
    Some(match now {
        _ if now >= ends => Ask::Anew(lease.clone()),
        _ if now >= lease.granted + u64::from(lease.rebind) => Ask::Rebind(lease.clone()),
        _ => Ask::Renew(lease.clone()),
    })
}

/// How long to ask from that time on: not into the next phase, which asks for something else.
pub fn span(dhcp: &Dhcp, now: u64) -> Duration {
    if dhcp.lease.is_none() {
        return Duration::from_secs((SPAN + dhcp.settles).min(LONGEST));
    }
    let border = dhcp.lease.iter().flat_map(borders).find(|border| *border > now);
    Duration::from_secs(border.map_or(SPAN, |border| (border - now).min(SPAN)))
}

/// The ends of the phases of a lease that has an end.
fn borders(lease: &Lease) -> impl Iterator<Item = u64> {
    let (renew, rebind) = (lease.granted + u64::from(lease.renew), lease.granted + u64::from(lease.rebind));
    lease.ends().into_iter().flat_map(move |ends| [renew, rebind, ends])
}

/// When to ask next; `asked`: when that was done last, without success. `None`: never.
pub fn next(dhcp: &Dhcp, asked: Option<u64>, now: u64) -> Option<u64> {
    let Some(lease) = &dhcp.lease else { return Some(asked.map_or(now, |asked| asked + REST)) };
    let ends = lease.ends()?;
    let renew = lease.granted + u64::from(lease.renew);
    let Some(asked) = asked else { return Some(renew.min(ends).max(lease.granted + LEAST)) };
    // Half of what is left of the phase, but the next phase begins in time.
    let border = borders(lease).find(|border| *border > asked);
    let half = border.map_or(0, |border| (border - asked) / 2);
    let at = asked + half.max(REST);
    Some(border.map_or(at, |border| at.min(border)).max(asked + LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dhcp(seconds: u32) -> Dhcp {
        let (renew, rebind) = (seconds / 2, seconds / 8 * 7);
        let lease = Lease {
            address: "192.0.2.7/24".parse().unwrap(),
            router: None,
            server: [192, 0, 2, 1].into(),
            server_mac: "02:00:00:00:00:01".parse().unwrap(),
            granted: 1000,
            granted_at: 0,
            seconds,
            renew,
            rebind,
        };
        Dhcp { lease: Some(lease), ..Dhcp::default() }
    }

    #[test]
    fn the_phases_follow_the_times_of_the_lease() {
        let dhcp = dhcp(800);
        let lease = || dhcp.lease.clone().unwrap();
        assert_eq!(next(&dhcp, None, 1000), Some(1400), "T1");
        assert_eq!(ask(&dhcp, 1400), Some(Ask::Renew(lease())));
        assert_eq!(next(&dhcp, Some(1400), 1400), Some(1550), "half of what is left until T2");
        assert_eq!(next(&dhcp, Some(1650), 1650), Some(1700), "T2 is not missed");
        assert_eq!(ask(&dhcp, 1700), Some(Ask::Rebind(lease())));
        assert_eq!(next(&dhcp, Some(1700), 1700), Some(1760), "at least a minute");
        assert_eq!(next(&dhcp, Some(1790), 1790), Some(1800));
        assert_eq!(ask(&dhcp, 1800), Some(Ask::Anew(lease())));
        assert_eq!(next(&dhcp, Some(1800), 1800), Some(1860));
    }

    #[test]
    fn asking_ends_with_its_phase() {
        let spans = [1400, 1695, 1700, 1798, 1800].map(|now| span(&dhcp(800), now).as_secs());
        assert_eq!(spans, [10, 5, 10, 2, 10]);
        assert_eq!(span(&Dhcp::default(), 5).as_secs(), 10);
        let on_bridge = |settles| span(&Dhcp { settles, ..Dhcp::default() }, 5).as_secs();
        assert_eq!([0, 4, 30, 60].map(on_bridge), [10, 14, 40, 50], "a new port of a bridge forwards later");
        assert_eq!(span(&dhcp(Lease::FOREVER), 5).as_secs(), 10);
    }

    #[test]
    fn a_short_lease_is_renewed_in_time_but_not_without_end() {
        assert_eq!(next(&dhcp(1), None, 1000), Some(1001));
        assert_eq!(next(&dhcp(1), Some(1001), 1001), Some(1061));
    }

    #[test]
    fn a_lease_without_an_end_is_never_renewed() {
        let mut dhcp = dhcp(Lease::FOREVER);
        assert_eq!((next(&dhcp, None, 5000), ask(&dhcp, 5000)), (None, None));
        dhcp.lease = None;
        dhcp.former = Some([192, 0, 2, 9].into());
        assert_eq!((next(&dhcp, None, 5), ask(&dhcp, 5)), (Some(5), Some(Ask::Any(dhcp.former))));
    }
}
