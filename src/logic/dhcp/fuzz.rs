//! The fuzz target `dhcp`: any bytes as a frame that a container receives while it asks DHCP servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use super::conversation::{Conversation, Outcome};
use super::frame;
use super::message::Client;
use super::schedule::{self, Ask};
use crate::model::lease::{Dhcp, Lease};

/// The number that answers repeat.
const XID: u32 = 0x0102_0304;
/// When what is answered was asked.
const ASKED: (u64, u64) = (1000, 1_700_000_000);

fn client() -> Client {
    let mac = "02:6f:00:00:00:01".parse().unwrap();
    Client { mac, id: mac, name: "web".into() }
}

/// A lease that is prolonged.
fn former() -> Lease {
    Lease {
        address: "192.0.2.7/24".parse().unwrap(),
        router: None,
        server: [192, 0, 2, 1].into(),
        server_mac: "02:00:00:00:00:99".parse().unwrap(),
        granted: 900,
        granted_at: 900,
        seconds: 100,
        renew: 50,
        rebind: 87,
    }
}

/// One run of the fuzzer. Panics if a promise is broken.
pub fn attack(input: &[u8]) {
    if let Some((_, message)) = frame::unwrap(input) {
        assert!(input.len() > message.len(), "a message is a part of its frame");
    }
    for ask in [Ask::Any(None), Ask::Renew(former()), Ask::Rebind(former()), Ask::Anew(former())] {
        let mut conversation = Conversation::new(client(), ask, XID);
        // An offer, and then a grant.
        for _ in 0..2 {
            match conversation.hear(input, ASKED) {
                Outcome::Granted(lease) => usable(&lease),
                Outcome::Again => conversation.begin_again(XID),
                Outcome::Refused(why) => shown(&why),
                Outcome::Waiting | Outcome::Next => {}
            }
            assert!(conversation.frame(0).len() >= 342, "what is asked next is a whole message");
        }
        shown(&conversation.failure());
    }
    granted(input);
}

/// The same bytes as the grant of an offer.
fn granted(input: &[u8]) {
    let kind = |kind: u8| {
        let mut frame = input.to_vec();
        let at = frame.windows(3).position(|part| part[..2] == [53, 1])?;
        frame[at + 2] = kind;
        Some(frame)
    };
    let Some((offer, grant)) = kind(2).zip(kind(5)) else { return };
    let mut conversation = Conversation::new(client(), Ask::Any(None), XID);
    if conversation.hear(&offer, ASKED) == Outcome::Next
        && let Outcome::Granted(lease) = conversation.hear(&grant, ASKED)
    {
        usable(&lease);
    }
}

/// A lease is one of an address of a host, lasts, and is prolonged before it ends.
fn usable(lease: &Lease) {
    let address = lease.address.ip();
    assert!(!address.is_unspecified() && !address.is_loopback() && !address.is_multicast() && !address.is_broadcast());
    assert!(lease.address.prefix() > 0);
    assert!(lease.router.is_none_or(|router| lease.address.contains(router) && router != address));
    assert!(0 < lease.renew && lease.renew < lease.rebind && lease.rebind < lease.seconds && lease.seconds >= 5);
    let dhcp = Dhcp { lease: Some(lease.clone()), ..Dhcp::default() };
    for now in [lease.granted, lease.granted + u64::from(lease.renew), u64::from(u32::MAX) * 2] {
        let next = schedule::next(&dhcp, Some(now), now);
        assert!(next.is_none_or(|next| next > now), "it is not asked for without end");
        assert_eq!(schedule::ask(&dhcp, now).is_none(), lease.ends().is_none());
    }
}

/// Words of a server harm no terminal, and are few.
fn shown(words: &str) {
    assert!(words.len() < 2000 && !words.chars().any(char::is_control), "{words:?}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_harness_holds_for_its_seeds_and_their_mutations() {
        netd_testing::inputs::attack("dhcp", super::attack);
    }
}
