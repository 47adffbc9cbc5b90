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
/// An asker may have so many times what is left: one alone has 52 MiB, room for 20,000 questions.
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
pub(crate) struct Flights<T> {
    under: Arc<Mutex<Under<T>>>,
    waiting: Arc<Shares<IpAddr>>,
}

#[derive(Debug)]
struct Under<T> {
    flights: HashMap<Arc<[u8]>, UnderWay<T>>,
    /// By the hash of each question in lower case, whoever is asked: in which forms it was sent.
    questions: HashMap<u64, SmallVec<[Arc<[u8]>; 1]>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct UnderWay<T> {
    pilot: IpAddr,
    /// Tells the answer to those who wait besides the one who asks; made for the first of them.
    land: Option<watch::Sender<Option<T>>>,
    /// It seems to wait for one of those who wait for it.
    loops: bool,
}

/// Why a question does not take off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grounded {
    /// The asker, or everybody together, has too many under way.
    Full,
    /// It is what we are asking ourselves: an upstream leads back to us.
    Loop,
}

impl std::fmt::Display for Grounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "too many forwarded questions wait for an answer",
            Self::Loop => "the question has come back from the host's resolver, which leads here",
        })
    }
}

/// The place of an asker's question that waits; free again when this is dropped.
pub(crate) type Seat = Share<IpAddr>;

/// How a question gets its answer.
#[derive(Debug)]
pub(crate) enum Boarded<T> {
    /// It is under way already.
    Passenger {
        /// Tells the answer; ends without one when nobody will.
        landed: watch::Receiver<Option<T>>,
        /// Another asker's question brought it on its way.
        of_other: bool,
        /// Not to be waited for: see [`Flights::loops`].
        loops: bool,
    },
    /// Nobody has asked it yet: ask, and land the flight.
    Pilot(Flight<T>),
}

/// One question that is being asked. Whoever waits gets nothing when it is dropped without having landed.
#[derive(Debug)]
pub(crate) struct Flight<T> {
    under: Arc<Mutex<Under<T>>>,
    key: Arc<[u8]>,
    as_sent: Arc<[u8]>,
    landed: bool,
}

impl<T> Flights<T> {
    /// Nothing is under way; what waits takes its bytes from `waiting`.
    pub(crate) fn new(waiting: Arc<Shares<IpAddr>>) -> Self {
        let (flights, questions, hasher) = (HashMap::new(), HashMap::new(), RandomState::new());
        Self { under: Arc::new(Mutex::new(Under { flights, questions, hasher })), waiting }
    }

    /// A place for a question. `from_host`: the asker is the host itself, through which our own questions can come back;
    /// others they can come back through keep the letters' random case (`as_asked`).
    pub(crate) fn take_seat(
        &self,
        asker: IpAddr,
        from_host: bool,
        key: &Key,
        as_asked: &[u8],
    ) -> Result<Seat, Grounded> {
        let comes_back = |form: &Arc<[u8]>| from_host || (is_telling(as_asked) && **form == *as_asked);
        let is_loop = {
            let under = lock(&self.under);
            let forms = under.questions.get(&under.hasher.hash_one(key.question()));
            let same = |form: &&Arc<[u8]>| form.eq_ignore_ascii_case(key.question());
            forms.is_some_and(|forms| forms.iter().filter(same).any(comes_back))
        };
        if is_loop {
            return Err(Grounded::Loop);
        }
        self.waiting.take(asker, QUESTION + COPIES * key.question().len() as u64).ok_or(Grounded::Full)
    }

    /// Joins those who wait for the same answer, or goes first. `as_sent`: the form in which it would be sent.
    pub(crate) fn board(&self, asker: IpAddr, key: &Key, as_sent: &Arc<[u8]>) -> Boarded<T> {
        let mut under = lock(&self.under);
        if let Some(flight) = under.flights.get_mut(key.as_bytes()) {
            let of_other = flight.pilot != asker;
            let loops = of_other && flight.loops;
            return Boarded::Passenger { landed: flight.subscribe(), of_other, loops };
        }
        let key_bytes: Arc<[u8]> = key.as_bytes().into();
        under.flights.insert(key_bytes.clone(), UnderWay { pilot: asker, land: None, loops: false });
        let hash = under.hasher.hash_one(key.question());
        under.questions.entry(hash).or_default().push(as_sent.clone());
        drop(under);
        let under = self.under.clone();
        Boarded::Pilot(Flight { under, key: key_bytes, as_sent: as_sent.clone(), landed: false })
    }

    /// Remembers that a question seems to wait for one of those who wait for it: who joins from now on is told at once.
    pub(crate) fn loops(&self, key: &[u8]) {
        if let Some(flight) = lock(&self.under).flights.get_mut(key) {
            flight.loops = true;
        }
    }
}

impl<T> UnderWay<T> {
    fn subscribe(&mut self) -> watch::Receiver<Option<T>> {
        self.land.get_or_insert_with(|| watch::channel(None).0).subscribe()
    }
}

fn lock<T>(under: &Mutex<Under<T>>) -> MutexGuard<'_, Under<T>> {
    // What it holds is whole between any two statements that can panic: there are none.
    under.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Flight<T> {
    /// Who is asked, what, and with which flags.
    pub(crate) fn key(&self) -> &Arc<[u8]> {
        &self.key
    }

    /// Tells the answer when it lands, to one more who waits.
    pub(crate) fn subscribe(&self) -> Option<watch::Receiver<Option<T>>> {
        lock(&self.under).flights.get_mut(&self.key).map(UnderWay::subscribe)
    }

    /// Tells the answer to all who wait.
    pub(crate) fn land(mut self, answer: T) {
        if let Some(land) = self.end() {
            land.send_replace(Some(answer));
        }
    }

    /// It is not under way any more; who tells those who wait for it.
    fn end(&mut self) -> Option<watch::Sender<Option<T>>> {
        self.landed = true;
        let mut under = lock(&self.under);
        let flight = under.flights.remove(&self.key);
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
        let Under { flights, questions, .. } = &mut *under;
        if flights.capacity() > ROOMY && flights.len() < flights.capacity() / 8 {
            flights.shrink_to(flights.len() * 2);
            questions.shrink_to(questions.len() * 2);
        }
        flight.and_then(|flight| flight.land)
    }
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        if !self.landed {
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

    fn seat(flights: &Flights<u8>, asker: IpAddr, from_host: bool, name: &str) -> Result<Seat, Grounded> {
        let question = question(name);
        flights.take_seat(asker, from_host, &question.key(), &question.as_asked())
    }

    fn board(flights: &Flights<u8>, asker: IpAddr, name: &str, set: u64) -> Boarded<u8> {
        let question = question(name);
        flights.board(asker, &question.key().of_set(set), &question.as_asked().into())
    }

    #[test]
    fn a_flood_of_one_asker_leaves_room_for_others() {
        let flights = Flights::new(Shares::new(BYTES, ALONE));
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let all =
            |asker| -> Vec<_> { std::iter::from_fn(|| seat(&flights, asker, false, "x.example.").ok()).collect() };
        let of_one = all(one);
        assert!(of_one.len() >= 20_000, "{}", of_one.len());
        assert_eq!(seat(&flights, one, false, "x.example.").unwrap_err(), Grounded::Full);
        let of_two = all(two);
        assert!(of_two.len() > 900, "{}", of_two.len());
        assert!(seat(&flights, "10.0.0.4".parse().unwrap(), false, "x.example.").is_ok());
        drop((of_one, of_two));
        assert_eq!(flights.waiting.taken(), 0);
    }

    #[test]
    fn a_question_that_comes_back_is_a_loop() {
        let flights = Flights::new(Shares::new(BYTES, ALONE));
        let (container, other) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let gateway = "10.0.0.1".parse().unwrap();
        let flight = board(&flights, container, "wWw.eXampLe.com.", 1);
        assert_eq!(seat(&flights, gateway, true, "www.example.COM.").unwrap_err(), Grounded::Loop, "through the host");
        assert!(seat(&flights, gateway, true, "example.org.").is_ok());
        assert_eq!(seat(&flights, other, false, "wWw.eXampLe.com.").unwrap_err(), Grounded::Loop, "in the same case");
        assert!(seat(&flights, other, false, "www.example.com.").is_ok());
        drop(flight);
        assert!(seat(&flights, gateway, true, "www.example.com.").is_ok());
        let _short = board(&flights, container, "A.b.", 1);
        assert!(seat(&flights, other, false, "A.b.").is_ok(), "may be chance");
    }

    #[tokio::test]
    async fn the_same_question_is_asked_once() {
        let flights = Flights::new(Shares::new(BYTES, ALONE));
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let Boarded::Pilot(flight) = board(&flights, one, "www.example.", 1) else { panic!() };
        let mut landed = flight.subscribe().unwrap();
        let Boarded::Passenger { landed: mut also, of_other: true, loops: false } =
            board(&flights, two, "WWW.example.", 1)
        else {
            panic!()
        };
        assert!(matches!(board(&flights, one, "www.example.", 1), Boarded::Passenger { of_other: false, .. }));
        assert!(matches!(board(&flights, two, "www.example.", 2), Boarded::Pilot(_)), "of other servers");
        flights.loops(question("www.example.").key().of_set(1).as_bytes());
        assert!(matches!(board(&flights, two, "www.example.", 1), Boarded::Passenger { loops: true, .. }));
        assert!(matches!(board(&flights, one, "www.example.", 1), Boarded::Passenger { loops: false, .. }));
        flight.land(7);
        assert_eq!(*landed.wait_for(Option::is_some).await.unwrap(), Some(7));
        assert_eq!(*also.wait_for(Option::is_some).await.unwrap(), Some(7));
        let Boarded::Pilot(flight) = board(&flights, one, "www.example.", 1) else { panic!() };
        let mut landed = flight.subscribe().unwrap();
        drop(flight);
        assert!(landed.wait_for(Option::is_some).await.is_err(), "nobody waits for ever");
    }
}
