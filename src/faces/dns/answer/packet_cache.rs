//! The packet cache: recent replies, which are found without parsing the question. While the state does not change, the
//! same bytes of the same client have the same reply.
//!
//! It is a table of fixed size in which each question has exactly one slot. Frequent questions are found there, others
//! cost one comparison, and no client can make the table grow. A slot is three cache lines, whereas the state is spread
//! over many.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::Snapshot;

/// Slots of the table.
const SLOTS: usize = 4096;
/// Bytes of the longest question and of the longest reply that are cached, without their IDs.
const QUESTION_MAX: usize = 64;
const REPLY_MAX: usize = 96;
/// Bytes of a message's ID.
const ID: usize = 2;

/// The table. It is valid for one snapshot at a time.
#[derive(Debug)]
pub(crate) struct PacketCache {
    state: Option<Arc<Snapshot>>,
    /// The number of snapshots so far. Slots with an earlier number are empty.
    age: u64,
    hasher: RandomState,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone)]
#[repr(align(64))]
struct Slot {
    age: u64,
    client: IpAddr,
    question_length: u8,
    reply_length: u8,
    question: [u8; QUESTION_MAX],
    reply: [u8; REPLY_MAX],
}

impl PacketCache {
    pub(crate) fn new() -> Self {
        let empty = Slot {
            age: 0,
            client: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            question_length: 0,
            reply_length: 0,
            question: [0; QUESTION_MAX],
            reply: [0; REPLY_MAX],
        };
        Self { state: None, age: 0, hasher: RandomState::new(), slots: vec![empty; SLOTS] }
    }

    /// Invalidates all slots unless the snapshot is the same as before.
    pub(crate) fn of(&mut self, state: &Arc<Snapshot>) {
        if !self.state.as_ref().is_some_and(|known| Arc::ptr_eq(known, state)) {
            self.state = Some(state.clone());
            self.age += 1;
        }
    }

    /// Writes the reply to a message that the client has sent before. Returns its length.
    pub(crate) fn find(&self, message: &[u8], client: IpAddr, out: &mut [u8]) -> Option<usize> {
        let (id, question) = message.split_first_chunk::<ID>()?;
        let slot = &self.slots[self.slot(question, client)?];
        let is_it = slot.age == self.age
            && usize::from(slot.question_length) == question.len()
            && slot.question[..question.len()] == *question
            && slot.client == client;
        let reply = is_it.then(|| &slot.reply[..usize::from(slot.reply_length)])?;
        let length = ID + reply.len();
        let out = out.get_mut(..length)?;
        out[..ID].copy_from_slice(id);
        out[ID..].copy_from_slice(reply);
        Some(length)
    }

    /// Caches a reply that stays the same while the snapshot does.
    pub(crate) fn keep(&mut self, message: &[u8], client: IpAddr, reply: &[u8]) {
        let (Some(question), Some(reply)) = (message.get(ID..), reply.get(ID..)) else { return };
        let Some(slot) = self.slot(question, client).filter(|_| reply.len() <= REPLY_MAX) else { return };
        let slot = &mut self.slots[slot];
        (slot.age, slot.client) = (self.age, client);
        (slot.question_length, slot.reply_length) = (question.len() as u8, reply.len() as u8);
        slot.question[..question.len()].copy_from_slice(question);
        slot.reply[..reply.len()].copy_from_slice(reply);
    }

    /// The slot of a question. `None` if the question is too long to be cached.
    fn slot(&self, question: &[u8], client: IpAddr) -> Option<usize> {
        (question.len() <= QUESTION_MAX).then(|| self.hasher.hash_one((question, client)) as usize % SLOTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_the_askers_own_and_of_one_state() {
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let (first, second) = (Arc::<Snapshot>::default(), Arc::<Snapshot>::default());
        let mut recent = PacketCache::new();
        let found = |recent: &PacketCache, message: &[u8], client| {
            let mut out = [0; 512];
            recent.find(message, client, &mut out).map(|length| out[..length].to_vec())
        };
        recent.of(&first);
        assert_eq!(found(&recent, b"\x01\x02question", one), None);
        recent.keep(b"\x01\x02question", one, b"\x01\x02reply");
        assert_eq!(found(&recent, b"\x03\x04question", one).unwrap(), b"\x03\x04reply", "with its own ID");
        assert_eq!(found(&recent, b"\x01\x02Question", one), None);
        assert_eq!(found(&recent, b"\x01\x02question", two), None);
        recent.of(&first);
        assert!(found(&recent, b"\x01\x02question", one).is_some());
        recent.of(&second);
        assert_eq!(found(&recent, b"\x01\x02question", one), None);
        recent.of(&first);
        assert_eq!(found(&recent, b"\x01\x02question", one), None, "it is not known to be the same state");
        for (question, reply) in [(QUESTION_MAX + 1, 1), (1, REPLY_MAX + 1), (0, 1)] {
            let (question, reply) = (vec![7; ID + question], vec![8; ID + reply]);
            recent.keep(&question, one, &reply);
            assert_eq!(found(&recent, &question, one).is_some(), question.len() == ID);
        }
        assert_eq!(found(&recent, b"\x01", one), None);
    }
}
