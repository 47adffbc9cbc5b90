//! In-flight questions: bounds their memory in total and per client, asks the same question only once for all clients
//! that wait for its answer, and detects questions that come back to netd.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::sync::watch;

use super::cache_key::Key;
use crate::base::shares::{Share, Shares};

/// Bytes that all in-flight questions and all replies that wait to be written to TCP clients may use.
pub(crate) const BYTES: u64 = 55 << 20;
/// A client may use this many times what is left. A single client gets 52 MiB, enough for 20,000 questions.
pub(crate) const ALONE: u64 = 20;
/// Bytes that an in-flight question uses besides its name: its task, its timer and its map entries. Measured; the test
/// `a_waiting_question_takes_no_more_than_it_is_counted_for` checks it.
pub(crate) const QUESTION: u64 = 2624;
/// How many copies of its name and type an in-flight question has: as received, as sent, and in keys.
const COPIES: u64 = 5;
/// Two questions with fewer letters than this may have the same random case by chance.
const LETTERS: usize = 8;
/// A map whose capacity exceeds this is shrunk when few entries are left.
const ROOMY: usize = 1024;

/// The in-flight questions. `T` is the result of one.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    under: Arc<Mutex<Under<T>>>,
    waiting: Arc<Shares<IpAddr>>,
}

#[derive(Debug)]
struct Under<T> {
    in_flight: HashMap<Arc<[u8]>, Entry<T>>,
    /// By the hash of the question in lower case, regardless of the upstreams: the forms in which it was sent.
    questions: HashMap<u64, SmallVec<[Arc<[u8]>; 1]>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry<T> {
    leader: IpAddr,
    /// Sends the answer to the followers. Created for the first of them.
    complete: Option<watch::Sender<Option<T>>>,
    /// The leader seems to wait for one of its followers.
    loops: bool,
}

/// Why a question is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The client, or all clients together, have too many in-flight questions.
    Full,
    /// netd is asking this question itself: an upstream leads back to netd.
    Loop,
}

impl std::fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "too many questions are in flight",
            Self::Loop => "the question came back from the host's resolver, which forwards to netd",
        })
    }
}

/// The permit of a client's in-flight question. Dropping it returns its memory.
pub(crate) type Permit = Share<IpAddr>;

/// How a question gets its answer.
#[derive(Debug)]
pub(crate) enum Joined<T> {
    /// The question is in flight already.
    Follower {
        /// Receives the answer. Closes without one if the leader fails.
        completed: watch::Receiver<Option<T>>,
        /// The leader is another client.
        of_other: bool,
        /// Do not wait for the answer: see [`InFlight::loops`].
        loops: bool,
    },
    /// The question is not in flight yet: ask it and complete the [`Leading`].
    Leader(Leading<T>),
}

/// The question of a leader. If it is dropped before it is completed, the followers get no answer.
#[derive(Debug)]
pub(crate) struct Leading<T> {
    under: Arc<Mutex<Under<T>>>,
    key: Arc<[u8]>,
    as_sent: Arc<[u8]>,
    completed: bool,
}

impl<T> InFlight<T> {
    /// Without questions in flight. Permits take their bytes from `waiting`.
    pub(crate) fn new(waiting: Arc<Shares<IpAddr>>) -> Self {
        let (in_flight, questions, hasher) = (HashMap::new(), HashMap::new(), RandomState::new());
        Self { under: Arc::new(Mutex::new(Under { in_flight, questions, hasher })), waiting }
    }

    /// Takes a permit for a question. `from_host`: the client is the host itself, through which netd's own questions
    /// can come back. Other resolvers through which they can come back preserve the random case (`as_asked`).
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

    /// Joins the followers of the same question, or becomes its leader. `as_sent` is the form in which it would be
    /// sent.
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

    /// Marks a question whose leader seems to wait for one of its followers. Later followers do not wait.
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
    // No statement that changes the data can panic, so that a poisoned lock still guards consistent data.
    under.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Leading<T> {
    /// The key: the set of upstreams, the question and the flags.
    pub(crate) fn key(&self) -> &Arc<[u8]> {
        &self.key
    }

    /// Subscribes one more follower.
    pub(crate) fn subscribe(&self) -> Option<watch::Receiver<Option<T>>> {
        lock(&self.under).in_flight.get_mut(&self.key).map(Entry::subscribe)
    }

    /// Sends the answer to all followers.
    pub(crate) fn complete(mut self, answer: T) {
        if let Some(land) = self.end() {
            land.send_replace(Some(answer));
        }
    }

    /// Removes the question from those in flight. Returns the sender to its followers.
    fn end(&mut self) -> Option<watch::Sender<Option<T>>> {
        self.completed = true;
        let mut under = lock(&self.under);
        let leading = under.in_flight.remove(&self.key);
        // The key without the set of upstreams and the flags, see [`Key`].
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

/// Whether two questions with this form are unlikely to have the same case by chance.
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
    fn a_flood_of_one_client_leaves_room_for_others() {
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
