//! An error of a file passes: whatever call fails, the answer is true, and when the file can be written again, it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::gate::Call;
use super::*;

const ERRORS: [i32; 4] = [libc::ENOSPC, libc::EIO, libc::EROFS, libc::EMFILE];

/// A change of one lifetime, and whether a store has it.
struct Change {
    record: fn() -> Record,
    is_in: fn(&Stored) -> bool,
}

const CHANGES: [Change; 3] = [
    Change {
        record: || Record::PutNetwork(Box::new(network(7))),
        is_in: |stored| stored.networks.iter().any(|network| network.name.as_str() == "net7"),
    },
    Change {
        record: || Record::PutEndpoint(Box::new(endpoint(&network(0), "new"))),
        is_in: |stored| stored.endpoints.iter().any(|endpoint| endpoint.container.name.as_str() == "new"),
    },
    Change {
        record: || Record::DeleteEndpoint(endpoint(&network(0), "web").key()),
        is_in: |stored| stored.endpoints.iter().all(|endpoint| endpoint.container.name.as_str() != "web"),
    },
];

/// How many calls a commit makes with an error at the `nth`, which fails once or until it is over.
fn commit_with(change: &Change, errno: i32, nth: usize, for_good: bool) -> Option<()> {
    let (place, ..) = filled();
    let gate = Gate::with(|_, _| Ok(()));
    let mut store = place.open_as(opening("boot-1"), &gate).unwrap();
    let before = store.load().unwrap();
    let met = Arc::new(AtomicBool::new(false));
    let synced = Arc::new(AtomicBool::new(true));
    let (meets, syncs) = (met.clone(), synced.clone());
    gate.set(move |number, call| {
        if number == nth || (for_good && number > nth) {
            meets.store(true, Ordering::SeqCst);
            if call == Call::Sync {
                syncs.store(false, Ordering::SeqCst);
            }
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(())
    });
    let context = format!("errno {errno} at call {nth}, for good: {for_good}");
    let answer = store.commit(&[(change.record)()]);
    if !met.load(Ordering::SeqCst) {
        return None;
    }
    // A daemon that is killed now. What a failed sync has written, the next start may find.
    let found = place.copied().load();
    let true_now = (change.is_in)(&found) == answer.is_ok() || (answer.is_err() && !synced.load(Ordering::SeqCst));
    assert!(true_now, "{context}: {answer:?}, {found:?}");
    if let Err(error) = &answer {
        let error = error.to_string();
        assert!(error.contains(".redb") && error.contains("os error"), "{context}: {error}");
        assert_eq!(store.load().unwrap(), before, "{context}");
    }
    gate.set(|_, _| Ok(()));
    assert_eq!(store.trouble().map(|error| error.to_string()).filter(|_| errno != libc::ENOSPC), None, "{context}");
    assert_eq!((change.is_in)(&place.copied().load()), answer.is_ok(), "{context}: mended");
    store.commit(&[Record::PutSetting("after".into(), "it".into()), (change.record)()]).expect(&context);
    drop(store);
    let stored = place.load();
    assert!(stored.settings.contains_key("after") && (change.is_in)(&stored), "{context}: {stored:?}");
    assert_eq!(place.names(), ["endpoints.redb", "netd.redb"], "{context}");
    Some(())
}

#[test]
fn every_failing_call_has_a_true_answer_and_passes() {
    for change in &CHANGES {
        for (errno, for_good) in ERRORS.into_iter().flat_map(|errno| [(errno, false), (errno, true)]) {
            let met = (0..).take_while(|nth| commit_with(change, errno, *nth, for_good).is_some()).count();
            assert!(met > 4, "{met} calls");
        }
    }
}

#[test]
fn what_follows_an_error_is_stored() {
    let (place, ..) = filled();
    let gate = Gate::with(|_, _| Ok(()));
    let mut store = place.open_as(opening("boot-1"), &gate).unwrap();
    // Some calls fail, at random but always alike.
    let mut seed = 7u32;
    gate.set(move |_, _| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if seed >> 24 < 5 { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    });
    let mut acknowledged = vec!["net0".to_owned()];
    for n in 1..200 {
        if store.commit(&[Record::PutNetwork(Box::new(network(n)))]).is_ok() {
            acknowledged.push(format!("net{n}"));
        }
    }
    gate.set(|_, _| Ok(()));
    assert!(store.trouble().is_none());
    drop(store);
    acknowledged.sort();
    let stored: Vec<String> = place.load().networks.iter().map(|network| network.name.to_string()).collect();
    assert_eq!(stored, acknowledged);
    assert!((20..180).contains(&acknowledged.len()), "{}", acknowledged.len());
}

#[test]
fn a_file_that_was_removed_or_replaced_is_written_again() {
    let (place, network, endpoint) = filled();
    let mut store = place.open();
    for path in [place.durable(), place.runtime()] {
        std::fs::remove_file(&path).unwrap();
        assert!(store.trouble().is_none());
        assert!(path.exists());
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        std::fs::write(&path, "notes").unwrap();
        assert!(store.trouble().is_none());
        assert_eq!(std::fs::read_to_string(format!("{}.damaged-1", path.display())).unwrap(), "notes");
    }
    assert_eq!(store.set_aside().len(), 2, "{:?}", store.set_aside());
    std::fs::remove_dir_all(place.0.path().join("run")).unwrap();
    store.commit(&[Record::PutSetting("after".into(), "it".into())]).unwrap();
    drop(store);
    let stored = place.load();
    assert_eq!((stored.networks, stored.endpoints), (vec![network], vec![endpoint]));
    assert_eq!(stored.settings["after"], "it");
}

#[test]
fn a_file_in_a_directory_that_appears_later_is_left_alone() {
    let (place, ..) = filled();
    let (other, ..) = filled();
    let theirs = std::fs::read(other.durable()).unwrap();
    let mut store = place.open();
    let state = place.0.path().join("state");
    std::fs::rename(&state, place.0.path().join("hidden")).unwrap();
    std::fs::rename(other.0.path().join("state"), &state).unwrap();
    let error = store.commit(&[Record::PutNetwork(Box::new(network(1)))]).unwrap_err().to_string();
    assert!(error.contains("mounted over") && error.contains("restart netd"), "{error}");
    assert!(store.trouble().is_some());
    store.commit(&[Record::PutEndpoint(Box::new(endpoint(&network(0), "new")))]).unwrap();
    assert_eq!(std::fs::read(place.durable()).unwrap(), theirs);
}
