//! A start that is killed at any call leaves files that the next start accepts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// From the `nth` call on, nothing is done any more. `torn`: half of it still is, if it writes.
fn dies(nth: usize, torn: bool, died: &Arc<AtomicBool>) -> Gate {
    let died = died.clone();
    Gate::with(move |number, _| {
        if number < nth {
            return Ok(());
        }
        died.store(true, Ordering::SeqCst);
        let half = torn && number == nth;
        Err(if half { io::Error::from_raw_os_error(libc::EINTR) } else { io::Error::other("the process has ended") })
    })
}

/// Runs the start with each possible end; returns how many there are.
fn at_every_call(prepare: impl Fn() -> Place, boot: &str, judge: impl Fn(&Stored, &str)) -> usize {
    let mut ends = 0;
    for nth in 0.. {
        for torn in [false, true] {
            let place = prepare();
            let died = Arc::new(AtomicBool::new(false));
            let store = place.open_as(opening(boot), &dies(nth, torn, &died));
            drop(store);
            if !died.load(Ordering::SeqCst) {
                return ends;
            }
            ends += 1;
            let mut store =
                place.open_as(opening(boot), &Gate::default()).unwrap_or_else(|error| panic!("call {nth}: {error}"));
            assert_eq!(store.set_aside(), [""; 0], "call {nth}");
            judge(&store.load().unwrap(), &format!("call {nth}, torn: {torn}"));
            store.commit(&[Record::PutSetting("a".into(), "b".into())]).unwrap();
            drop(store);
            assert_eq!(place.names(), ["endpoints.redb", "netd.redb"], "call {nth}");
        }
    }
    ends
}

#[test]
fn the_first_start_can_be_killed_at_any_call() {
    let ends = at_every_call(Place::new, "boot-1", |_, _| {});
    assert!(ends > 20, "{ends}");
}

#[test]
fn the_first_start_after_a_reboot_can_be_killed_at_any_call() {
    let (filled, network, _) = filled();
    let ends = at_every_call(
        || filled.copied(),
        "boot-2",
        |stored, context| {
            assert_eq!(stored.networks, std::slice::from_ref(&network), "{context}");
            assert_eq!(stored.endpoints, [], "{context}");
        },
    );
    assert!(ends > 20, "{ends}");
}

#[test]
fn a_start_can_be_killed_at_any_call() {
    let (filled, network, endpoint) = filled();
    let ends = at_every_call(
        || filled.copied(),
        "boot-1",
        |stored, context| {
            assert_eq!(stored.networks, std::slice::from_ref(&network), "{context}");
            assert_eq!(stored.endpoints, std::slice::from_ref(&endpoint), "{context}");
        },
    );
    assert!(ends > 5, "{ends}");
}

#[test]
fn a_start_that_rebuilds_a_damaged_file_can_be_killed_at_any_call() {
    let (filled, network, endpoint) = filled();
    std::fs::write(filled.durable(), "damage").unwrap();
    let mut ends = 0;
    for nth in 0.. {
        let place = filled.copied();
        let died = Arc::new(AtomicBool::new(false));
        drop(place.open_as(opening("boot-1"), &dies(nth, false, &died)));
        if !died.load(Ordering::SeqCst) {
            break;
        }
        ends += 1;
        let stored = place.load();
        assert_eq!((&stored.networks[..], &stored.endpoints[..]), (&[network.clone()][..], &[endpoint.clone()][..]));
        let aside = format!("{}.damaged-1", place.durable().display());
        assert_eq!(std::fs::read_to_string(aside).unwrap(), "damage", "call {nth}");
        assert_eq!(place.names().len(), 3, "call {nth}: {:?}", place.names());
    }
    assert!(ends > 10, "{ends}");
}
