//! The packet cache: recent replies, which are found without parsing the question. While nothing changes that answers
//! depend on, the same bytes of the same client have the same reply.
//!
//! It is emptied as a whole, not for each network: an answer depends on other networks, too (whether a network has a
//! name or an address; ports that a container publishes with another network), and a stale reply after a command has
//! completed is worse than an empty cache.
//!
//! It is a table of fixed size in which each question has exactly one slot. Frequent questions are found there, others
//! cost one comparison, and no client can make the table grow. A slot is three cache lines, whereas the state is spread
//! over many.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::Snapshot;
use crate::faces::dns::forward::selection::Beside;

/// Slots of the table.
const SLOTS: usize = 4096;
/// Bytes of the longest question and of the longest reply that are cached, without their IDs.
const QUESTION_MAX: usize = 64;
const REPLY_MAX: usize = 96;
/// Bytes of a message's ID.
const ID: usize = 2;

/// The table.
pub(crate) struct PacketCache {
    /// What its replies were made from: the last snapshot, and the resolvers that some questions are left to.
    state: Option<(Arc<Snapshot>, Arc<Beside>)>,
    /// Counts how often it was emptied. Slots with an earlier number are empty.
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

    /// Empties the table if answers from this state may differ from those before.
    pub(crate) fn of(&mut self, snapshot: &Arc<Snapshot>, beside: Arc<Beside>) {
        let same_answers = |(known, resolvers): &(Arc<Snapshot>, Arc<Beside>)| {
            Arc::ptr_eq(resolvers, &beside) && (Arc::ptr_eq(known, snapshot) || known.answers_like(snapshot))
        };
        if !self.state.as_ref().is_some_and(same_answers) {
            self.age += 1;
        }
        self.state = Some((snapshot.clone(), beside));
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

    /// Caches a reply that stays the same while answers do.
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
    use crate::logic::samples;
    use crate::model::desired::Desired;
    use crate::model::endpoint::Endpoint;
    use crate::model::network::Network;

    /// What the cache has for the message.
    fn found(cache: &PacketCache, message: &[u8], client: IpAddr) -> Option<Vec<u8>> {
        let mut out = [0; 512];
        cache.find(message, client, &mut out).map(|length| out[..length].to_vec())
    }

    #[test]
    fn a_reply_belongs_to_one_client_and_one_state() {
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let (first, second) = (Arc::<Snapshot>::default(), Arc::<Snapshot>::default());
        let nobody = Arc::<Beside>::default();
        let mut recent = PacketCache::new();
        recent.of(&first, nobody.clone());
        assert_eq!(found(&recent, b"\x01\x02question", one), None);
        recent.keep(b"\x01\x02question", one, b"\x01\x02reply");
        assert_eq!(found(&recent, b"\x03\x04question", one).unwrap(), b"\x03\x04reply", "with its own ID");
        assert_eq!(found(&recent, b"\x01\x02Question", one), None);
        assert_eq!(found(&recent, b"\x01\x02question", two), None);
        recent.of(&first, nobody.clone());
        assert!(found(&recent, b"\x01\x02question", one).is_some());
        recent.of(&second, nobody.clone());
        assert_eq!(found(&recent, b"\x01\x02question", one), None);
        recent.of(&first, nobody);
        assert_eq!(found(&recent, b"\x01\x02question", one), None, "it is not known to be the same state");
        for (question, reply) in [(QUESTION_MAX + 1, 1), (1, REPLY_MAX + 1), (0, 1)] {
            let (question, reply) = (vec![7; ID + question], vec![8; ID + reply]);
            recent.keep(&question, one, &reply);
            assert_eq!(found(&recent, &question, one).is_some(), question.len() == ID);
        }
        assert_eq!(found(&recent, b"\x01", one), None);
    }

    fn snapshot() -> Snapshot {
        let mut desired = Desired::default();
        let network = samples::network("net1", &["10.1.0.0/24"]);
        desired.insert_network(network.clone());
        desired.insert_endpoint(samples::endpoint(&network, "web", 1, &["10.1.0.2"], &[]));
        Snapshot { desired, domain: "internal".into(), ..Snapshot::default() }
    }

    /// Whether a reply is still found after the change.
    fn survives(change: impl FnOnce(&mut Snapshot, &mut Arc<Beside>)) -> bool {
        let client = "10.1.0.2".parse().unwrap();
        let (mut snapshot, mut beside) = (snapshot(), Arc::<Beside>::default());
        let mut cache = PacketCache::new();
        cache.of(&Arc::new(snapshot.clone()), beside.clone());
        cache.keep(b"\x01\x02question", client, b"\x01\x02reply");
        change(&mut snapshot, &mut beside);
        cache.of(&Arc::new(snapshot), beside);
        found(&cache, b"\x01\x02question", client).is_some()
    }

    /// Every new snapshot emptied the cache.
    #[test]
    fn it_survives_changes_on_which_no_answer_depends() {
        assert!(survives(|_, _| {}));
        assert!(survives(|snapshot, _| snapshot.revision += 1));
        assert!(survives(|snapshot, _| snapshot.problems.push("cannot see the host's network".into())));
        assert!(survives(|snapshot, _| snapshot.firewall = Arc::default()));
        assert!(survives(|snapshot, _| snapshot.gateway_blocked = Arc::default()));
    }

    type Change<'a> = (&'a str, &'a dyn Fn(&mut Snapshot));

    #[test]
    fn it_does_not_survive_changes_on_which_an_answer_may_depend() {
        let net1 = || samples::network("net1", &["10.1.0.0/24"]);
        let endpoint = |name: &str, last: u8| samples::endpoint(&net1(), name, 2, &[&format!("10.1.0.{last}")], &[]);
        let web = |desired: &Desired| desired.endpoints().next().unwrap().key();
        let changes: [Change<'_>; 9] = [
            ("connect", &|s| drop(s.desired.insert_endpoint(endpoint("db", 3)))),
            ("disconnect", &|s| drop(s.desired.remove_endpoint(&web(&s.desired)))),
            ("another address", &|s| drop(s.desired.insert_endpoint(endpoint("web", 9)))),
            ("an alias", &|s| {
                let aliases = vec!["www".parse().unwrap()];
                s.desired.insert_endpoint(Endpoint { aliases, ..endpoint("web", 2) });
            }),
            ("a new network", &|s| drop(s.desired.insert_network(samples::network("net2", &["10.2.0.0/24"])))),
            ("a removed network", &|s| {
                s.desired.remove_endpoint(&web(&s.desired));
                s.desired.remove_network(&"net1".parse().unwrap());
            }),
            ("a changed network", &|s| drop(s.desired.insert_network(Network { internal: true, ..net1() }))),
            ("another domain", &|s| s.domain = "lan".into()),
            ("a search domain", &|s| s.search.push("corp.example".into())),
        ];
        for (what, change) in changes {
            assert!(!survives(|snapshot, _| change(snapshot)), "{what}");
        }
        assert!(!survives(|_, beside| *beside = Arc::default()), "a resolver in a container");
    }
}
