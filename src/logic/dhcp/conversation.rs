//! A conversation with DHCP servers: what to send next, and what came of it.

use std::net::Ipv4Addr;

use super::frame::{self, EVERYBODY, Ends};
use super::message::{Answer, Client, Kind, Say, Terms};
use super::schedule::Ask;
use crate::model::address::Mac;
use crate::model::lease::Lease;

/// How many different things that were heard are told.
const TOLD: usize = 4;

/// A conversation.
#[derive(Debug)]
pub struct Conversation {
    client: Client,
    xid: u32,
    phase: Phase,
    /// What was heard and led to nothing.
    heard: Vec<String>,
}

#[derive(Debug)]
enum Phase {
    /// Nobody has offered anything yet.
    Looking(Option<Ipv4Addr>),
    /// This offer was taken, and its server has not granted it yet.
    Taking(Box<Lease>),
    /// The lease is to be prolonged by its server, or by any.
    Keeping { lease: Box<Lease>, by_any: bool },
}

/// What comes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing as yet.
    Waiting,
    /// The next message is to be sent.
    Next,
    /// The offer does not hold: [`Conversation::begin_again`].
    Again,
    /// An address was granted.
    Granted(Box<Lease>),
    /// The lease cannot be prolonged, for this reason.
    Refused(String),
}

impl Conversation {
    /// Begins one. `xid`: a random number.
    pub fn new(client: Client, ask: Ask, xid: u32) -> Self {
        let phase = match ask {
            Ask::Any(former) => Phase::Looking(former),
            Ask::Anew(lease) => Phase::Looking(Some(lease.address.ip())),
            Ask::Renew(lease) => Phase::Keeping { lease: Box::new(lease), by_any: false },
            Ask::Rebind(lease) => Phase::Keeping { lease: Box::new(lease), by_any: true },
        };
        Self { client, xid, phase, heard: Vec::new() }
    }

    /// The frame to send now, and again if nothing is heard.
    pub fn frame(&self, secs: u16) -> Vec<u8> {
        let broadcast = |from| Ends { mac: self.client.mac, from, to_mac: EVERYBODY, to: Ipv4Addr::BROADCAST };
        let (ends, say) = match &self.phase {
            Phase::Looking(former) => (broadcast(Ipv4Addr::UNSPECIFIED), Say::Discover(*former)),
            Phase::Taking(offer) => (broadcast(Ipv4Addr::UNSPECIFIED), Say::Take(offer.address.ip(), offer.server)),
            Phase::Keeping { lease, by_any: true } => (broadcast(lease.address.ip()), Say::Keep(lease.address.ip())),
            Phase::Keeping { lease, by_any: false } => {
                (to_server(self.client.mac, lease), Say::Keep(lease.address.ip()))
            }
        };
        frame::wrap(ends, &self.client.encode(say, self.xid, secs))
    }

    /// Takes a frame. `asked`: when what it may answer was sent first, as [`Terms::lease`] needs it.
    pub fn hear(&mut self, frame: &[u8], asked: (u64, u64)) -> Outcome {
        let answer =
            frame::unwrap(frame).and_then(|(from, message)| Some((from, self.client.decode(message, self.xid)?)));
        let Some((from, answer)) = answer else { return Outcome::Waiting };
        match answer {
            Answer::Useless(what) => self.note(format!("{what} from {from}")),
            Answer::Address(Kind::Offer, terms) => self.offered(terms, from, asked),
            Answer::Address(Kind::Grant, terms) => self.granted(terms, from, asked),
            Answer::Refusal(server, words) => self.refused(server, &words, from),
        }
    }

    fn offered(&mut self, terms: Terms, from: Mac, asked: (u64, u64)) -> Outcome {
        if !matches!(self.phase, Phase::Looking(_)) {
            return Outcome::Waiting;
        }
        // What could not be used later is not taken.
        match terms.lease((from, None), asked) {
            Ok(lease) => {
                self.phase = Phase::Taking(Box::new(lease));
                Outcome::Next
            }
            Err(lacks) => self.note(format!("an offer with {lacks} from {from}")),
        }
    }

    fn granted(&mut self, terms: Terms, from: Mac, asked: (u64, u64)) -> Outcome {
        if self.is_of_another(terms.server) {
            return Outcome::Waiting;
        }
        let before = match &self.phase {
            Phase::Looking(_) => return Outcome::Waiting,
            Phase::Taking(offer) if offer.address.ip() != terms.address => {
                let heard = format!("a grant of {} instead of {} from {from}", terms.address, offer.address.ip());
                return self.note(heard);
            }
            Phase::Taking(_) => None,
            Phase::Keeping { lease, .. } => Some(lease.as_ref()),
        };
        match terms.lease((from, before), asked) {
            Ok(lease) => Outcome::Granted(Box::new(lease)),
            Err(lacks) => self.note(format!("a lease with {lacks} from {from}")),
        }
    }

    /// Whether one server was asked, and this is another one.
    fn is_of_another(&self, server: Option<Ipv4Addr>) -> bool {
        let asked = match &self.phase {
            Phase::Looking(_) | Phase::Keeping { by_any: true, .. } => None,
            Phase::Taking(lease) | Phase::Keeping { lease, by_any: false } => Some(lease.server),
        };
        asked.zip(server).is_some_and(|(asked, server)| asked != server)
    }

    fn refused(&mut self, server: Option<Ipv4Addr>, words: &str, from: Mac) -> Outcome {
        if self.is_of_another(server) {
            return Outcome::Waiting;
        }
        let words = if words.is_empty() { String::new() } else { format!(" ({words})") };
        match &self.phase {
            Phase::Looking(_) => Outcome::Waiting,
            Phase::Taking(offer) => {
                let heard = format!("a refusal of {} from {}{words}", offer.address.ip(), offer.server);
                self.note(heard);
                Outcome::Again
            }
            Phase::Keeping { .. } => Outcome::Refused(format!("the server at {from} refused to prolong it{words}")),
        }
    }

    /// The frame that tells the server that the address which it granted cannot be used, for this reason (RFC 2131,
    /// 3.1.5).
    pub fn decline(&mut self, lease: &Lease, why: &str) -> Vec<u8> {
        let (address, server) = (lease.address.ip(), lease.server);
        self.note(format!("{address} from {server}, which cannot be used: {why}"));
        let mac = self.client.mac;
        let ends = Ends { mac, from: Ipv4Addr::UNSPECIFIED, to_mac: EVERYBODY, to: Ipv4Addr::BROADCAST };
        frame::wrap(ends, &self.client.encode(Say::Decline(address, server), self.xid, 0))
    }

    /// Looks for an address from the beginning, but for none in particular. `xid`: another random number: late answers to
    /// former questions are none to new ones.
    pub fn begin_again(&mut self, xid: u32) {
        (self.phase, self.xid) = (Phase::Looking(None), xid);
    }

    /// Whether it is about a first address.
    pub fn looks(&self) -> bool {
        !matches!(self.phase, Phase::Keeping { .. })
    }

    fn note(&mut self, what: String) -> Outcome {
        if self.heard.len() < TOLD && !self.heard.contains(&what) {
            self.heard.push(what);
        }
        Outcome::Waiting
    }

    /// Why nothing came of it.
    pub fn failure(&self) -> String {
        let mut heard = self.heard.clone();
        if let Phase::Taking(offer) = &self.phase {
            heard.push(format!("an offer of {} from {}, which did not grant it", offer.address, offer.server));
        }
        match (&heard[..], &self.phase) {
            ([], Phase::Looking(_) | Phase::Taking(_)) => "no DHCP server answered".into(),
            ([], Phase::Keeping { lease, by_any: false }) => format!("the DHCP server {} did not answer", lease.server),
            ([], Phase::Keeping { by_any: true, .. }) => "no DHCP server answered".into(),
            (heard, _) => format!("no DHCP server granted an address; heard {}", heard.join(", ")),
        }
    }
}

/// The frame that gives a lease back.
pub fn release(client: &Client, lease: &Lease, xid: u32) -> Vec<u8> {
    let say = Say::Release(lease.address.ip(), lease.server);
    frame::wrap(to_server(client.mac, lease), &client.encode(say, xid, 0))
}

fn to_server(mac: Mac, lease: &Lease) -> Ends {
    Ends { mac, from: lease.address.ip(), to_mac: lease.server_mac.bytes(), to: lease.server }
}

#[cfg(test)]
mod tests;
