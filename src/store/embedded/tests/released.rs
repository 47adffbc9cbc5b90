//! Files of earlier versions open, and nothing in them is lost. Each folder of `tests/golden/store` has both files of a
//! version as its daemon left them when it was killed, and `expected.json`: what they hold.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::model::host::routing::TurnedOn;

fn folders() -> Vec<PathBuf> {
    let all = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store")).unwrap();
    let mut folders: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// The boot in which the file was written.
fn boot_of(path: &Path) -> String {
    let database = Database::open(path).unwrap();
    let rows = super::super::database::rows(&database).unwrap();
    values::<String>(&rows, rows::BOOT).unwrap().remove(0)
}

fn shown(stored: &Stored) -> Value {
    let Stored {
        networks,
        services,
        policies,
        conditions,
        endpoints,
        reservations,
        released,
        turned_on,
        sticky,
        settings,
        incomplete,
    } = stored;
    let mut shown = json!({ "networks": networks, "endpoints": endpoints, "reservations": reservations, "released": released,
        "sticky": sticky, "settings": settings, "incomplete": incomplete });
    // The first versions did not know it.
    if *turned_on != TurnedOn::default() {
        shown["turned_on"] = json!(turned_on);
    }
    if !services.is_empty() || !conditions.is_empty() {
        (shown["services"], shown["conditions"]) = (json!(services), json!(conditions));
    }
    if !policies.is_empty() {
        shown["policies"] = json!(policies);
    }
    shown
}

#[test]
fn files_of_every_version_open_and_have_everything() {
    let folders = folders();
    assert!(folders.len() >= 2, "{folders:?}");
    for folder in folders {
        let name = folder.display();
        let place = Place::new();
        for (from, to) in [("netd.redb", place.durable()), ("endpoints.redb", place.runtime())] {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(folder.join(from), to).unwrap();
        }
        let boot = boot_of(&place.runtime());
        let stored = place.open_as(opening(&boot), &Gate::default()).unwrap().load().unwrap();
        let expected = folder.join("expected.json");
        if !expected.exists() {
            std::fs::write(&expected, serde_json::to_string_pretty(&shown(&stored)).unwrap() + "\n").unwrap();
        }
        let expected: Value = serde_json::from_str(&std::fs::read_to_string(expected).unwrap()).unwrap();
        assert_eq!(shown(&stored), expected, "{name}");
        assert!(stored.networks.len() > 1 && stored.endpoints.len() > 1 && !stored.sticky.is_empty(), "{name}");
        // There is a copy of the definitions by now.
        let copied = place.copied();
        std::fs::remove_file(copied.durable()).unwrap();
        let rebuild = Opening { rebuild: true, ..opening(&boot) };
        let stored_again = copied.open_as(rebuild, &Gate::default()).unwrap().load().unwrap();
        assert_eq!((&stored_again.networks, &stored_again.sticky), (&stored.networks, &stored.sticky), "{name}");
        // They work, and a version that reads them again has the change too.
        let mut store = place.open_as(opening(&boot), &Gate::default()).unwrap();
        assert_eq!((store.set_aside(), store.trouble().is_none()), (Vec::new(), true), "{name}");
        let gone = stored.endpoints[0].key();
        store.commit(&[Record::DeleteEndpoint(gone.clone()), Record::PutNetwork(Box::new(network(99)))]).unwrap();
        drop(store);
        let again = place.open_as(opening(&boot), &Gate::default()).unwrap().load().unwrap();
        assert!(again.endpoints.iter().all(|endpoint| endpoint.key() != gone), "{name}");
        assert_eq!(again.networks.len(), stored.networks.len() + 1, "{name}");
    }
}
