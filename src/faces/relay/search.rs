//! Open searches: each has a socket of its own at the interface where it was sent, whose port leads the answers back.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use super::link::{Link, SEARCH_PORTS};
use super::plan::Way;
use crate::model::address::Family;
use crate::model::names::IfName;
use crate::model::relay::Protocol;

/// Searches of one sender at an interface.
const OF_SENDER: usize = 8;
/// Searches from one interface to another.
const OF_WAY: usize = 64;

/// Who searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Searcher {
    /// The interface where it is.
    pub(super) at: IfName,
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
}

/// Where answers arrive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Door {
    pub(super) at: IfName,
    pub(super) family: Family,
    pub(super) port: u16,
}

#[derive(Debug)]
struct Search {
    by: Searcher,
    way: Way,
    socket: UdpSocket,
    ends: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Searches(HashMap<Door, Search>);

impl Searches {
    /// Sends a search on, and leads answers back until `ends`. False: too many are open.
    pub(super) fn open(
        &mut self,
        by: Searcher,
        (way, link): (&Way, &Link),
        message: &[u8],
        (now, ends): (Instant, Instant),
    ) -> io::Result<bool> {
        self.0.retain(|_, search| search.ends > now);
        let family = Family::of(by.address.ip());
        let to = link.towards(by.protocol, family);
        let is_same = |search: &&mut Search| search.by == by && search.way.to == way.to;
        if let Some(same) = self.0.values_mut().find(is_same) {
            same.ends = same.ends.max(ends);
            return same.socket.send_to(message, to).map(|_| true);
        }
        let of_way = self.0.values().filter(|search| search.by.at == by.at && search.way.to == way.to);
        let (all, own) = of_way
            .fold((0, 0), |(all, own), search| (all + 1, own + usize::from(search.by.address.ip() == by.address.ip())));
        if all >= OF_WAY || own >= OF_SENDER {
            return Ok(false);
        }
        for port in SEARCH_PORTS {
            let door = Door { at: way.to.clone(), family, port };
            if self.0.contains_key(&door) {
                continue;
            }
            match link.searcher(by.protocol, family, port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
                Ok(socket) => {
                    socket.send_to(message, to)?;
                    self.0.insert(door, Search { by, way: way.clone(), socket, ends });
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Who searched from there.
    pub(super) fn find(&self, door: &Door, now: Instant) -> Option<(&Searcher, &Way)> {
        self.0.get(door).filter(|search| search.ends > now).map(|search| (&search.by, &search.way))
    }

    /// Ends those that are over, and those to or from interfaces for which this returns false.
    pub(super) fn retain(&mut self, now: Instant, stays: impl Fn(&IfName) -> bool) {
        self.0.retain(|door, search| search.ends > now && stays(&door.at) && stays(&search.by.at));
    }
}
