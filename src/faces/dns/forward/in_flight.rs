//! Questions on their way to upstreams: how much memory they may take, and whose; that the same one is asked once
//! however many wait for it; and the one that comes back to us.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::sync::watch;

use super::cache_key::Key;
use crate::base::shares::{Share, Shares};

/// Bytes that all questions that wait for upstreams may take, with what waits to be written to TCP clients.
pub(crate) const BYTES: u64 = 55 << 20;
/// A client may have so many times what is left: one alone has 52 MiB, room for 20,000 questions.
pub(crate) const ALONE: u64 = 20;
/// Bytes that a question takes while it waits, without its name: its task, its timer, its places in the maps. Measured;
/// held by `a_waiting_question_takes_no_more_than_it_is_counted_for`.
pub(crate) const QUESTION: u64 = 2624;
/// How often a question's name and type are there while it waits: as it came, as it was sent, in keys.
const COPIES: u64 = 5;
/// A question with fewer letters than this may come in the same random case by chance.
const LETTERS: usize = 8;
/// Maps that have been larger than this are made smaller when little is left in them.
const ROOMY: usize = 1024;

/// The questions under way, and what comes of each: a `T`.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    under: Arc<Mutex<Under<T>>>,
    waiting: Arc<Shares<IpAddr>>,
}

#[derive(Debug)]
struct Under<T> {
    in_flight: HashMap<Arc<[u8]>, Entry<T>>,
    /// By the hash of each question in lower case, whoever is asked: in which forms it was sent.
    questions: HashMap<u64, SmallVec<[Arc<[u8]>; 1]>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry<T> {
    leader: IpAddr,
    /// Tells the answer to those who wait besides the one who asks; made for the first of them.
    complete: Option<watch::Sender<Option<T>>>,
    /// It seems to wait for one of those who wait for it.
    loops: bool,
}

/// Why a question does not take off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The client, or everybody together, has too many under way.
    Full,
    /// It is what we are asking ourselves: an upstream leads back to us.
    Loop,
}

impl std::fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "too many forwarded questions wait for an answer",
            Self::Loop => "the question has come back from the host's resolver, which leads here",
        })
    }
}

/// The place of a client's question that waits; free again when this is dropped.
pub(crate) type Permit = Share<IpAddr>;

/// How a question gets its answer.
#[derive(Debug)]
pub(crate) enum Joined<T> {
    /// It is under way already.
    Follower {
        /// Tells the answer; ends without one when nobody will.
        completed: watch::Receiver<Option<T>>,
        /// Another client's question brought it on its way.
        of_other: bool,
        /// Not to be waited for: see [`InFlight::loops`].
        loops: bool,
    },
    /// Nobody has asked it yet: ask, and land the leading.
    Leader(Leading<T>),
}

/// One question that is being asked. Whoever waits gets nothing when it is dropped without having completed.
#[derive(Debug)]
pub(crate) struct Leading<T> {
    under: Arc<Mutex<Under<T>>>,
    key: Arc<[u8]>,
    as_sent: Arc<[u8]>,
    completed: bool,
}

impl<T> InFlight<T> {
    /// Nothing is under way; what waits takes its bytes from `waiting`.
    pub(crate) fn new(waiting: Arc<Shares<IpAddr>>) -> Self {
        let (in_flight, questions, hasher) = (HashMap::new(), HashMap::new(), RandomState::new());
        Self { under: Arc::new(Mutex::new(Under { in_flight, questions, hasher })), waiting }
    }

    /// A place for a question. `from_host`: the client is the host itself, through which our own questions can come back;
    /// others they can come back through keep the letters' random case (`as_asked`).
    pub(crate) fn take_permit(
        &self,
        client: IpAddr,
        from_host: bool,
        key: &Key,
        as_asked: &[u8],
    ) -> Result<Permit, NotAdmitted> {
        let comes_back = |form: &Arc<[u8]>| from_host || (is_telling(as_asked) && **form == *as_asked);
        let is_loop = {
            let under = lock(&self.under);
            let forms = under.questions.get(&under.hasher.hash_one(key.question()));
            let same = |form: &&Arc<[u8]>| form.eq_ignore_ascii_case(key.question());
            forms.is_some_and(|forms| forms.iter().filter(same).any(comes_back))
        };
        if is_loop {
            return Err(NotAdmitted::Loop);
        }
        self.waiting.take(client, QUESTION + COPIES * key.question().len() as u64).ok_or(NotAdmitted::Full)
    }

    /// Joins those who wait for the same answer, or goes first. `as_sent`: the form in which it would be sent.
    pub(crate) fn join(&self, client: IpAddr, key: &Key, as_sent: &Arc<[u8]>) -> Joined<T> {
        let mut under = lock(&self.under);
        if let Some(leading) = under.in_flight.get_mut(key.as_bytes()) {
            let of_other = leading.leader != client;
            let loops = of_other && leading.loops;
            return Joined::Follower { completed: leading.subscribe(), of_other, loops };
        }
        let key_bytes: Arc<[u8]> = key.as_bytes().into();
        under.in_flight.insert(key_bytes.clone(), Entry { leader: client, complete: None, loops: false });
        let hash = under.hasher.hash_one(key.question());
        under.questions.entry(hash).or_default().push(as_sent.clone());
        drop(under);
        let under = self.under.clone();
        Joined::Leader(Leading { under, key: key_bytes, as_sent: as_sent.clone(), completed: false })
    }

    /// Remembers that a question seems to wait for one of those who wait for it: who joins from now on is told at once.
    pub(crate) fn loops(&self, key: &[u8]) {
        if let Some(leading) = lock(&self.under).in_flight.get_mut(key) {
            leading.loops = true;
        }
    }
}

impl<T> Entry<T> {
    fn subscribe(&mut self) -> watch::Receiver<Option<T>> {
        self.complete.get_or_insert_with(|| watch::channel(None).0).subscribe()
    }
}

fn lock<T>(under: &Mutex<Under<T>>) -> MutexGuard<'_, Under<T>> {
    // What it holds is whole between any two statements that can panic: there are none.
    under.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Leading<T> {
    /// Who is asked, what, and with which flags.
    pub(crate) fn key(&self) -> &Arc<[u8]> {
        &self.key
    }

    /// Tells the answer when it lands, to one more who waits.
    pub(crate) fn subscribe(&self) -> Option<watch::Receiver<Option<T>>> {
        lock(&self.under).in_flight.get_mut(&self.key).map(Entry::subscribe)
    }

    /// Tells the answer to all who wait.
    pub(crate) fn complete(mut self, answer: T) {
        if let Some(land) = self.end() {
            land.send_replace(Some(answer));
        }
    }

    /// It is not under way any more; who tells those who wait for it.
    fn end(&mut self) -> Option<watch::Sender<Option<T>>> {
        self.completed = true;
        let mut under = lock(&self.under);
        let leading = under.in_flight.remove(&self.key);
        // The key without whom is asked and the flags, see `Key`.
        let hash = under.hasher.hash_one(Key::question_of(&self.key));
        if let Some(forms) = under.questions.get_mut(&hash) {
            if let Some(place) = forms.iter().position(|form| Arc::ptr_eq(form, &self.as_sent)) {
                forms.swap_remove(place);
            }
            if forms.is_empty() {
                under.questions.remove(&hash);
            }
        }
        let Under { in_flight, questions, .. } = &mut *under;
        if in_flight.capacity() > ROOMY && in_flight.len() < in_flight.capacity() / 8 {
            in_flight.shrink_to(in_flight.len() * 2);
            questions.shrink_to(questions.len() * 2);
        }
        leading.and_then(|leading| leading.complete)
    }
}

impl<T> Drop for Leading<T> {
    fn drop(&mut self) {
        if !self.completed {
            self.end();
        }
    }
}

/// Whether two questions of this form are hardly by chance in the same case.
fn is_telling(form: &[u8]) -> bool {
    form.iter().filter(|byte| byte.is_ascii_alphabetic()).count() >= LETTERS && form.iter().any(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RecordType};

    use super::*;
    use crate::faces::dns::forward::cache_key::{Flags, Question};

    fn question(name: &str) -> Question {
        let query = Query::query(Name::from_ascii(name).unwrap(), RecordType::A);
        Question { query, flags: Flags::default() }
    }

    fn permit(in_flight: &InFlight<u8>, client: IpAddr, from_host: bool, name: &str) -> Result<Permit, NotAdmitted> {
        let question = question(name);
        in_flight.take_permit(client, from_host, &question.key(), &question.as_asked())
    }

    fn join(in_flight: &InFlight<u8>, client: IpAddr, name: &str, set: u64) -> Joined<u8> {
        let question = question(name);
        in_flight.join(client, &question.key().of_set(set), &question.as_asked().into())
    }

    #[test]
    fn a_flood_of_one_asker_leaves_room_for_others() {
        let in_flight = InFlight::new(Shares::new(BYTES, ALONE));
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let all = |client| -> Vec<_> {
            std::iter::from_fn(|| permit(&in_flight, client, false, "x.example.").ok()).collect()
        };
        let of_one = all(one);
        assert!(of_one.len() >= 20_000, "{}", of_one.len());
        assert_eq!(permit(&in_flight, one, false, "x.example.").unwrap_err(), NotAdmitted::Full);
        let of_two = all(two);
        assert!(of_two.len() > 900, "{}", of_two.len());
        assert!(permit(&in_flight, "10.0.0.4".parse().unwrap(), false, "x.example.").is_ok());
        drop((of_one, of_two));
        assert_eq!(in_flight.waiting.taken(), 0);
    }

    #[test]
    fn a_question_that_comes_back_is_a_loop() {
        let in_flight = InFlight::new(Shares::new(BYTES, ALONE));
        let (container, other) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let gateway = "10.0.0.1".parse().unwrap();
        let leading = join(&in_flight, container, "wWw.eXampLe.com.", 1);
        assert_eq!(
            permit(&in_flight, gateway, true, "www.example.COM.").unwrap_err(),
            NotAdmitted::Loop,
            "through the host"
        );
        assert!(permit(&in_flight, gateway, true, "example.org.").is_ok());
        assert_eq!(
            permit(&in_flight, other, false, "wWw.eXampLe.com.").unwrap_err(),
            NotAdmitted::Loop,
            "in the same case"
        );
        assert!(permit(&in_flight, other, false, "www.example.com.").is_ok());
        drop(leading);
        assert!(permit(&in_flight, gateway, true, "www.example.com.").is_ok());
        let _short = join(&in_flight, container, "A.b.", 1);
        assert!(permit(&in_flight, other, false, "A.b.").is_ok(), "may be chance");
    }

    #[tokio::test]
    async fn the_same_question_is_asked_once() {
        let in_flight = InFlight::new(Shares::new(BYTES, ALONE));
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let Joined::Leader(leading) = join(&in_flight, one, "www.example.", 1) else { panic!() };
        let mut completed = leading.subscribe().unwrap();
        let Joined::Follower { completed: mut also, of_other: true, loops: false } =
            join(&in_flight, two, "WWW.example.", 1)
        else {
            panic!()
        };
        assert!(matches!(join(&in_flight, one, "www.example.", 1), Joined::Follower { of_other: false, .. }));
        assert!(matches!(join(&in_flight, two, "www.example.", 2), Joined::Leader(_)), "of other servers");
        in_flight.loops(question("www.example.").key().of_set(1).as_bytes());
        assert!(matches!(join(&in_flight, two, "www.example.", 1), Joined::Follower { loops: true, .. }));
        assert!(matches!(join(&in_flight, one, "www.example.", 1), Joined::Follower { loops: false, .. }));
        leading.complete(7);
        assert_eq!(*completed.wait_for(Option::is_some).await.unwrap(), Some(7));
        assert_eq!(*also.wait_for(Option::is_some).await.unwrap(), Some(7));
        let Joined::Leader(leading) = join(&in_flight, one, "www.example.", 1) else { panic!() };
        let mut completed = leading.subscribe().unwrap();
        drop(leading);
        assert!(completed.wait_for(Option::is_some).await.is_err(), "nobody waits for ever");
    }
}
