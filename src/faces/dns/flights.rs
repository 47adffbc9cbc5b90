//! Questions on their way to upstreams: how many there may be, whose; that the same one is asked once however many wait
//! for it; and the one that comes back to us.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::question::Key;

/// Questions that may wait for upstreams. Each takes some KiB and no descriptor.
pub(super) const TOTAL: usize = 65_536;
/// A question with fewer letters than this may come in the same random case by chance.
const LETTERS: usize = 8;

/// The questions under way, and what comes of each: a `T`.
#[derive(Debug)]
pub(super) struct Flights<T>(Arc<Mutex<Under<T>>>);

#[derive(Debug)]
struct Under<T> {
    waiting: usize,
    askers: HashMap<IpAddr, usize>,
    flights: HashMap<Box<[u8]>, UnderWay<T>>,
    /// For each question, whoever is asked: in which forms it was sent.
    questions: HashMap<Box<[u8]>, Vec<Arc<[u8]>>>,
}

#[derive(Debug)]
struct UnderWay<T> {
    pilot: IpAddr,
    landed: watch::Receiver<Option<T>>,
    /// It seems to wait for one of those who wait for it.
    loops: bool,
}

/// Why a question does not take off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grounded {
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
#[derive(Debug)]
pub(super) struct Seat<T> {
    flights: Flights<T>,
    asker: IpAddr,
}

/// How a question gets its answer.
#[derive(Debug)]
pub(super) enum Boarded<T> {
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
    Pilot(Box<Flight<T>>, watch::Receiver<Option<T>>),
}

/// One question that is being asked. Whoever waits gets nothing when it is dropped without having landed.
#[derive(Debug)]
pub(super) struct Flight<T> {
    flights: Flights<T>,
    key: Key,
    as_sent: Arc<[u8]>,
    land: watch::Sender<Option<T>>,
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        let under = Under { waiting: 0, askers: HashMap::new(), flights: HashMap::new(), questions: HashMap::new() };
        Self(Arc::new(Mutex::new(under)))
    }
}

impl<T> Flights<T> {
    /// A place for a question. An asker may have as many as are left: one alone half of all, two a third each, so that
    /// there is always room for others. `from_host`: the asker is the host itself, through which our own questions can
    /// come back; others they can come back through keep the letters' random case (`as_asked`).
    pub(super) fn take_seat(
        &self,
        asker: IpAddr,
        from_host: bool,
        key: &Key,
        as_asked: &[u8],
    ) -> Result<Seat<T>, Grounded> {
        let mut under = self.lock();
        let comes_back = |forms: &Vec<Arc<[u8]>>| {
            from_host || (is_telling(as_asked) && forms.iter().any(|form| **form == *as_asked))
        };
        if under.questions.get(key.question()).is_some_and(comes_back) {
            return Err(Grounded::Loop);
        }
        let free = TOTAL.saturating_sub(under.waiting);
        if under.askers.get(&asker).copied().unwrap_or_default() >= free {
            return Err(Grounded::Full);
        }
        under.waiting += 1;
        *under.askers.entry(asker).or_default() += 1;
        drop(under);
        Ok(Seat { flights: self.clone(), asker })
    }

    /// Joins those who wait for the same answer, or goes first. `as_sent`: the form in which it would be sent.
    pub(super) fn board(&self, asker: IpAddr, key: Key, as_sent: &Arc<[u8]>) -> Boarded<T> {
        let mut under = self.lock();
        if let Some(flight) = under.flights.get(key.as_bytes()) {
            let of_other = flight.pilot != asker;
            return Boarded::Passenger { landed: flight.landed.clone(), of_other, loops: of_other && flight.loops };
        }
        let (land, landed) = watch::channel(None);
        under.flights.insert(key.as_bytes().into(), UnderWay { pilot: asker, landed: landed.clone(), loops: false });
        under.questions.entry(key.question().into()).or_default().push(as_sent.clone());
        drop(under);
        Boarded::Pilot(Box::new(Flight { flights: self.clone(), key, as_sent: as_sent.clone(), land }), landed)
    }

    /// Remembers that a question seems to wait for one of those who wait for it: who joins from now on is told at once.
    pub(super) fn loops(&self, key: &Key) {
        if let Some(flight) = self.lock().flights.get_mut(key.as_bytes()) {
            flight.loops = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Under<T>> {
        // What it holds is whole between any two statements that can panic: there are none.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Flight<T> {
    /// Tells the answer to all who wait.
    pub(super) fn land(self, answer: T) {
        self.land.send_replace(Some(answer));
    }
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        let mut under = self.flights.lock();
        under.flights.remove(self.key.as_bytes());
        if let Some(forms) = under.questions.get_mut(self.key.question()) {
            if let Some(place) = forms.iter().position(|form| Arc::ptr_eq(form, &self.as_sent)) {
                forms.swap_remove(place);
            }
            if forms.is_empty() {
                under.questions.remove(self.key.question());
            }
        }
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        let mut under = self.flights.lock();
        under.waiting -= 1;
        if let Some(count) = under.askers.get_mut(&self.asker) {
            *count -= 1;
            if *count == 0 {
                under.askers.remove(&self.asker);
            }
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

    use super::super::question::{Flags, Question};
    use super::*;

    fn question(name: &str) -> Question {
        let query = Query::query(Name::from_ascii(name).unwrap(), RecordType::A);
        Question { query, flags: Flags::default() }
    }

    fn seat(flights: &Flights<u8>, asker: IpAddr, from_host: bool, name: &str) -> Result<Seat<u8>, Grounded> {
        let question = question(name);
        flights.take_seat(asker, from_host, &question.key(), &question.as_asked())
    }

    fn board(flights: &Flights<u8>, asker: IpAddr, name: &str, set: u64) -> Boarded<u8> {
        let question = question(name);
        flights.board(asker, question.key().of_set(set), &question.as_asked().into())
    }

    #[test]
    fn a_flood_of_one_asker_leaves_room_for_others() {
        let flights = Flights::default();
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let all =
            |asker| -> Vec<_> { std::iter::from_fn(|| seat(&flights, asker, false, "x.example.").ok()).collect() };
        let of_one = all(one);
        assert_eq!(of_one.len(), TOTAL / 2);
        assert_eq!(seat(&flights, one, false, "x.example.").unwrap_err(), Grounded::Full);
        let of_two = all(two);
        assert_eq!(of_two.len(), TOTAL / 4);
        drop((of_one, of_two));
        assert!(seat(&flights, one, false, "x.example.").is_ok());
        let under = flights.lock();
        assert_eq!((under.waiting, under.askers.len()), (0, 0));
    }

    #[test]
    fn a_question_that_comes_back_is_a_loop() {
        let flights = Flights::default();
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
        let flights = Flights::default();
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let Boarded::Pilot(flight, mut landed) = board(&flights, one, "www.example.", 1) else { panic!() };
        let Boarded::Passenger { landed: mut also, of_other: true, loops: false } =
            board(&flights, two, "WWW.example.", 1)
        else {
            panic!()
        };
        assert!(matches!(board(&flights, one, "www.example.", 1), Boarded::Passenger { of_other: false, .. }));
        assert!(matches!(board(&flights, two, "www.example.", 2), Boarded::Pilot(..)), "of other servers");
        flights.loops(&question("www.example.").key().of_set(1));
        assert!(matches!(board(&flights, two, "www.example.", 1), Boarded::Passenger { loops: true, .. }));
        assert!(matches!(board(&flights, one, "www.example.", 1), Boarded::Passenger { loops: false, .. }));
        flight.land(7);
        assert_eq!(*landed.wait_for(Option::is_some).await.unwrap(), Some(7));
        assert_eq!(*also.wait_for(Option::is_some).await.unwrap(), Some(7));
        let Boarded::Pilot(flight, mut landed) = board(&flights, one, "www.example.", 1) else { panic!() };
        drop(flight);
        assert!(landed.wait_for(Option::is_some).await.is_err(), "nobody waits for ever");
    }
}
