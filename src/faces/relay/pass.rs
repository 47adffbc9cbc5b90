//! What becomes of a packet that arrives at an interface.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::guard::{Rates, Recent, equal_searches};
use super::link::{Link, Taps};
use super::message::{Message, is_answer, read};
use super::plan::{Way, Ways};
use super::search::{Door, Searcher, Searches};
use super::wire::{self, Datagram, group, on, port};
use crate::engine::relay::AttachedInterface;
use crate::engine::telemetry::relay::{Direction, Outcome, RelayCounts};
use crate::model::address::Family;
use crate::model::names::{IfName, NetworkName};
use crate::model::relay::Protocol;
use crate::os::multicast::Cast;

/// The relay of all networks.
#[derive(Debug, Default)]
pub(super) struct Relay {
    ways: Ways,
    counts: BTreeMap<NetworkName, Arc<RelayCounts>>,
    links: BTreeMap<IfName, Link>,
    recent: Recent,
    rates: Rates,
    searches: Searches,
}

/// Taps that were opened, and their interfaces.
pub(super) type Opened = Vec<(IfName, Taps)>;

impl Relay {
    /// From now on relays on these ways. Returns what was opened, and the errors of interfaces that could not be.
    pub(super) fn follow(
        &mut self,
        now: Instant,
        (ways, counts): (Ways, BTreeMap<NetworkName, Arc<RelayCounts>>),
        up: Vec<AttachedInterface>,
    ) -> (Opened, Vec<(IfName, io::Error)>) {
        (self.ways, self.counts) = (ways, counts);
        let (mut opened, mut failed, mut links) = (Vec::new(), Vec::new(), BTreeMap::new());
        for interface in up {
            let from_there = self.ways.keys().filter(|(_, from)| *from == interface.name);
            let protocols: BTreeSet<Protocol> = from_there.map(|(protocol, _)| *protocol).collect();
            let name = interface.name.clone();
            let known = self.links.remove(&name);
            if let Some(link) = known.and_then(|mut link| link.follow(&interface, &protocols).then_some(link)) {
                links.insert(name, link);
                continue;
            }
            self.searches.retain(now, |at| *at != name);
            if protocols.is_empty() {
                continue;
            }
            match Link::open(interface, protocols) {
                Err(error) => failed.push((name, error)),
                Ok((link, taps)) => {
                    links.insert(name.clone(), link);
                    opened.push((name, taps));
                }
            }
        }
        self.links = links;
        self.searches.retain(now, |at| self.links.contains_key(at));
        self.rates.retain(|at| self.links.contains_key(at));
        (opened, failed)
    }

    /// The interface, if it is used.
    pub(super) fn link(&mut self, name: &IfName) -> Option<&mut Link> {
        self.links.get_mut(name)
    }

    /// Whether nothing is relayed.
    pub(super) fn is_idle(&self) -> bool {
        self.links.is_empty() && self.ways.is_empty()
    }

    /// A packet has arrived.
    pub(super) fn receive(&mut self, now: Instant, at: &IfName, cast: Cast, packet: &[u8]) {
        let Some(datagram) = wire::read(packet) else { return };
        match cast {
            Cast::Unicast => self.answer(now, at, &datagram),
            Cast::Multicast => {
                let is_of = |protocol: &Protocol| {
                    datagram.to_port == port(*protocol) && datagram.to == group(*protocol, Family::of(datagram.to))
                };
                if let Some(protocol) = Protocol::ALL.into_iter().find(is_of) {
                    self.spread(now, at, protocol, &datagram);
                }
            }
        }
    }

    /// A message to the group.
    fn spread(&mut self, now: Instant, at: &IfName, protocol: Protocol, datagram: &Datagram<'_>) {
        let Some(ways) = self.ways.get(&(protocol, at.clone())).cloned() else { return };
        let message = match self.judge(now, at, protocol, datagram) {
            Ok(message) => message,
            Err(outcome) => return ways.iter().for_each(|way| self.count(way, protocol, way.direction, outcome)),
        };
        for way in &ways {
            let outcome = self.pass(now, at, (protocol, datagram), way, &message);
            self.count(way, protocol, way.direction, outcome);
        }
    }

    /// What the message is, or why it is not relayed.
    fn judge(
        &mut self,
        now: Instant,
        at: &IfName,
        protocol: Protocol,
        datagram: &Datagram<'_>,
    ) -> Result<Message, Outcome> {
        let link = self.links.get(at).filter(|link| link.is_neighbour(datagram.from)).ok_or(Outcome::OffLink)?;
        let from = on(link.index(), datagram.from, datagram.from_port);
        if !self.rates.allow(now, at, datagram.from, datagram.payload.len()) {
            return Err(Outcome::Limited);
        }
        let message = read(protocol, datagram.from_port, datagram.payload).ok_or(Outcome::Malformed)?;
        let (bytes, most) = match &message {
            Message::Spread(bytes) => (bytes, 1),
            Message::Search(bytes, _) => (bytes, equal_searches(datagram.from_port)),
            Message::Answer => return Err(Outcome::Malformed),
        };
        if self.recent.is_new(now, (at, from), bytes, most) { Ok(message) } else { Err(Outcome::Duplicate) }
    }

    /// Sends a message on one way.
    fn pass(
        &mut self,
        now: Instant,
        at: &IfName,
        (protocol, datagram): (Protocol, &Datagram<'_>),
        way: &Way,
        message: &Message,
    ) -> Outcome {
        let (Some(from), Some(link)) = (self.links.get(at), self.links.get(&way.to)) else { return Outcome::Failed };
        let (bytes, sent) = match message {
            Message::Answer => return Outcome::Malformed,
            Message::Spread(bytes) => (bytes, link.spread(protocol, Family::of(datagram.to), bytes).map(|()| true)),
            Message::Search(bytes, patience) => {
                let address = on(from.index(), datagram.from, datagram.from_port);
                let by = Searcher { at: at.clone(), address, protocol };
                (bytes, self.searches.open(by, (way, link), bytes, (now, now + *patience)))
            }
        };
        match sent {
            Ok(true) => {
                self.recent.sent(now, &way.to, bytes);
                Outcome::Relayed
            }
            Ok(false) => Outcome::Limited,
            Err(_) => Outcome::Failed,
        }
    }

    /// An answer to one who searched.
    fn answer(&mut self, now: Instant, at: &IfName, datagram: &Datagram<'_>) {
        let door = Door { at: at.clone(), family: Family::of(datagram.to), port: datagram.to_port };
        let (Some(link), Some((by, way))) = (self.links.get(at), self.searches.find(&door, now)) else { return };
        let direction = match way.direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        let outcome = if !link.has(datagram.to) || !link.is_neighbour(datagram.from) {
            Outcome::OffLink
        } else if !self.rates.allow(now, at, datagram.from, datagram.payload.len()) {
            Outcome::Limited
        } else if !is_answer(by.protocol, datagram.from_port, datagram.payload) {
            Outcome::Malformed
        } else {
            let back = self.links.get(&by.at);
            let sent = back.map(|back| back.send(by.protocol, by.address, datagram.payload));
            if matches!(sent, Some(Ok(()))) { Outcome::Relayed } else { Outcome::Failed }
        };
        self.count(way, by.protocol, direction, outcome);
    }

    fn count(&self, way: &Way, protocol: Protocol, direction: Direction, outcome: Outcome) {
        if let Some(counts) = self.counts.get(&way.network) {
            counts.count(protocol, direction, outcome);
        }
    }
}
