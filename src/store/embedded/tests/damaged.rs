//! Damaged, foreign and later files: every start either has all data, or sets the file aside and says so.

use super::*;

/// Places whose files have some size: networks and endpoints.
fn large() -> (Place, Stored) {
    let (place, first, _) = filled();
    let mut store = place.open();
    for n in 1..12 {
        let network = network(n);
        store.commit(&[Record::PutNetwork(Box::new(network.clone()))]).unwrap();
        store.commit(&[Record::PutEndpoint(Box::new(endpoint(&network, &format!("web{n}"))))]).unwrap();
        store.commit(&[Record::PutSticky(first.name.clone(), [10, 0, 0, n].into(), "db".parse().unwrap())]).unwrap();
    }
    let stored = store.load().unwrap();
    (place, stored)
}

/// The damages of a file: a name, and its bytes then.
fn damages(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let lengths = (0..4096).step_by(511).chain((4096..bytes.len()).step_by(4096 * 5 + 17));
    all.extend(lengths.map(|len| (format!("cut at {len}"), bytes[..len].to_vec())));
    let mut flip = |at: usize, bit: u8| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << bit;
        all.push((format!("bit {bit} of byte {at}"), flipped));
    };
    // Bytes of redb's header, and some of each page that holds something.
    (0..320).step_by(3).for_each(|at| flip(at, u8::try_from(at % 8).unwrap()));
    let pages = bytes.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    for (number, page) in pages {
        let used = page.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        [0, 3, 17, used / 2].into_iter().for_each(|at| flip(number * 4096 + at, 3));
    }
    all.push(("zeros".into(), vec![0; bytes.len()]));
    all.push(("a page of zeros".into(), vec![0; 4096]));
    all.push(("text".into(), b"# not a database\n".repeat(1000)));
    let torn = |from: usize, len: usize| {
        let mut torn = bytes.to_vec();
        let end = (from + len).min(torn.len());
        torn[from.min(end)..end].fill(0xff);
        (format!("{len} bytes from {from} overwritten"), torn)
    };
    all.extend((0..bytes.len()).step_by(4096 * 7).map(|from| torn(from, 4096)));
    all
}

/// Starts with damage in one of the files; `judge` says whether the data is as it must be if the file was set aside.
fn starts(which: fn(&Place) -> PathBuf, judge: impl Fn(&Stored, &Stored) -> bool) -> (usize, usize) {
    let (place, before) = large();
    let bytes = std::fs::read(which(&place)).unwrap();
    let (mut kept, mut set_aside) = (0, 0);
    for (name, damaged) in damages(&bytes) {
        let place = place.copied();
        std::fs::write(which(&place), &damaged).unwrap();
        let mut store = place.try_open().unwrap_or_else(|error| panic!("{name}: {error}"));
        let stored = store.load().unwrap();
        let messages = store.set_aside();
        let aside = PathBuf::from(format!("{}.damaged-1", which(&place).display()));
        if messages.is_empty() {
            assert_eq!(stored, before, "{name}: nothing was said");
            assert!(!aside.exists());
            kept += 1;
        } else {
            assert!(messages.len() == 1 && messages[0].contains(aside.to_str().unwrap()), "{name}: {messages:?}");
            assert_eq!(std::fs::read(&aside).unwrap(), damaged, "{name}: it was changed");
            assert!(judge(&stored, &before), "{name}: {stored:?}");
            set_aside += 1;
        }
        // It works, and goes on to work.
        store.commit(&[Record::PutNetwork(Box::new(network(99)))]).unwrap();
        drop(store);
        let mut again = place.open();
        assert!(again.load().unwrap().networks.iter().any(|network| network.name.as_str() == "net99"), "{name}");
        assert_eq!(again.set_aside(), messages, "{name}: said until the file is gone");
        let _ = std::fs::remove_file(aside);
        assert_eq!(again.set_aside(), [""; 0], "{name}");
    }
    (kept, set_aside)
}

#[test]
fn a_damaged_durable_file_is_made_again_from_its_copy() {
    let (kept, set_aside) = starts(Place::durable, |stored, before| stored == before);
    assert!(set_aside > 60, "{kept} kept, {set_aside} set aside");
}

#[test]
fn a_damaged_runtime_file_leaves_the_networks_and_says_that_endpoints_may_be_missing() {
    let (kept, set_aside) = starts(Place::runtime, |stored, before| {
        (&stored.networks, &stored.sticky, &stored.settings) == (&before.networks, &before.sticky, &before.settings)
            && stored.incomplete
    });
    assert!(set_aside > 60, "{kept} kept, {set_aside} set aside");
}

#[test]
fn what_is_no_file_is_set_aside() {
    for which in [Place::durable, Place::runtime] {
        let (place, before) = large();
        let path = which(&place);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("notes"), "theirs").unwrap();
        let mut store = place.open();
        assert_eq!(store.load().unwrap().networks, before.networks);
        let messages = store.set_aside().join("\n");
        assert!(messages.contains("directory") && messages.contains(".damaged-1"), "{messages}");
        assert_eq!(std::fs::read_to_string(format!("{}.damaged-1/notes", path.display())).unwrap(), "theirs");
    }
}

#[test]
fn another_programs_database_is_set_aside() {
    let (place, network, _) = filled();
    std::fs::remove_file(place.durable()).unwrap();
    edit(&place.durable(), "cache", |table| drop(table.insert("a", b"b".as_slice()).unwrap()));
    let mut store = place.open();
    assert_eq!(store.load().unwrap().networks, [network]);
    let messages = store.set_aside().join("\n");
    assert!(messages.contains("another program's database"), "{messages}");
}

#[test]
fn a_record_that_cannot_be_read_costs_only_itself() {
    let (place, before) = large();
    std::fs::remove_file(place.runtime()).unwrap();
    edit(&place.durable(), NETWORKS, |table| drop(table.insert("net3", [rows::SCHEMA, b'{'].as_slice()).unwrap()));
    let mut store = place.open();
    let stored = store.load().unwrap();
    assert_eq!(stored.networks.len(), before.networks.len() - 1);
    assert_eq!(stored.settings, before.settings);
    let messages = store.set_aside().join("\n");
    assert!(messages.contains("\"net3\"") && messages.contains("netd restore"), "{messages}");
}

#[test]
fn a_record_of_a_later_schema_is_refused_and_kept() {
    for which in [Place::durable, Place::runtime] {
        let (place, ..) = filled();
        let path = which(&place);
        edit(&path, meta_table(), |table| drop(table.insert("version", b"\x02\"9.1.0\"".as_slice()).unwrap()));
        edit(&path, "settings", |table| drop(table.insert("x", [rows::SCHEMA + 1, b'{'].as_slice()).unwrap()));
        let before = std::fs::read(&path).unwrap();
        let error = place.try_open().unwrap_err().to_string();
        assert!(error.contains("written by netd 9.1.0") && error.contains("a later one"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "unchanged");
        assert_eq!(place.names(), ["endpoints.redb", "netd.redb"]);
    }
}

#[test]
fn a_record_of_a_later_version_that_cannot_be_read_is_refused() {
    let (place, ..) = filled();
    edit(&place.durable(), meta_table(), |table| drop(table.insert("version", b"\x01\"0.10.0\"".as_slice()).unwrap()));
    place.load();
    edit(&place.durable(), meta_table(), |table| drop(table.insert("version", b"\x01\"0.10.0\"".as_slice()).unwrap()));
    edit(&place.durable(), NETWORKS, |table| drop(table.insert("x", b"\x01{\"new\":1}".as_slice()).unwrap()));
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains("written by netd 0.10.0"), "{error}");
}

fn meta_table() -> &'static str {
    rows::META
}

#[test]
fn there_is_an_end_to_setting_aside() {
    let (place, ..) = filled();
    for _ in 0..20 {
        std::fs::write(place.durable(), "damage").unwrap();
        place.load();
    }
    std::fs::write(place.durable(), "damage").unwrap();
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains("inspect and remove"), "{error}");
}
