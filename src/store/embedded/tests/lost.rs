//! Definitions that are missing are no order to destroy: a start without them is refused, or has them from the copy.

use super::*;

fn rebuild() -> Opening<'static> {
    Opening { rebuild: true, ..opening("boot-1") }
}

#[test]
fn an_empty_state_directory_is_refused_while_the_boot_has_networks() {
    let (place, network, endpoint) = filled();
    std::fs::remove_file(place.durable()).unwrap();
    let error = place.try_open().unwrap_err().to_string();
    for part in ["netd.redb: it is missing", "1 networks and 1 endpoints", "mount it", "--rebuild", "endpoints.redb"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(place.names(), ["endpoints.redb"], "nothing was made");
    let mut store = place.open_as(rebuild(), &Gate::default()).unwrap();
    let stored = store.load().unwrap();
    assert_eq!((stored.networks, stored.endpoints), (vec![network], vec![endpoint]));
    assert_eq!((stored.sticky.len(), stored.settings["ula-prefix"].as_str()), (1, "fd00::/48"));
    drop(store);
    assert!(!place.load().incomplete);
}

#[test]
fn an_empty_state_directory_is_a_first_start_when_nothing_is_known() {
    let place = Place::new();
    place.open().commit(&[Record::PutSetting("instance".into(), "x".into())]).unwrap();
    std::fs::remove_file(place.durable()).unwrap();
    assert_eq!(place.load().settings["instance"], "x");
    let (place, ..) = filled();
    std::fs::remove_file(place.durable()).unwrap();
    let stored = place.open_as(opening("boot-2"), &Gate::default()).unwrap().load().unwrap();
    assert_eq!(stored.networks, [], "after a reboot nothing stands that could be lost");
}

#[test]
fn a_dangling_link_is_refused() {
    let (place, ..) = filled();
    std::fs::remove_file(place.durable()).unwrap();
    std::os::unix::fs::symlink("/nonexistent/netd.redb", place.durable()).unwrap();
    let error = place.open_as(rebuild(), &Gate::default()).unwrap_err().to_string();
    assert!(error.contains("a link to /nonexistent/netd.redb"), "{error}");
}

#[test]
fn a_network_of_endpoints_that_is_missing_is_taken_from_the_copy() {
    let (place, network, endpoint) = filled();
    edit(&place.durable(), NETWORKS, |table| drop(table.remove("net0").unwrap()));
    edit(&place.durable(), STICKY, |table| drop(table.remove("net0/10.0.0.9").unwrap()));
    let stored = place.load();
    assert_eq!((stored.networks, stored.endpoints), (vec![network], vec![endpoint]));
    assert_eq!(stored.sticky.len(), 1);
}

#[test]
fn a_network_that_was_removed_stays_removed() {
    let (place, network, endpoint) = filled();
    let mut store = place.open();
    let reservation = Record::DeleteReservation(reservation(&network).id);
    store.commit(&[Record::DeleteEndpoint(endpoint.key()), reservation]).unwrap();
    // The runtime file does not learn of the removal.
    let runtime = std::fs::read(place.runtime()).unwrap();
    store.commit(&[Record::DeleteNetwork(network.name)]).unwrap();
    drop(store);
    std::fs::write(place.runtime(), runtime).unwrap();
    assert_eq!(place.load().networks, []);
}

#[test]
fn endpoints_without_a_network_anywhere_are_refused() {
    let (place, ..) = filled();
    edit(&place.durable(), NETWORKS, |table| drop(table.remove("net0").unwrap()));
    edit(&place.runtime(), "copy/networks", |table| drop(table.remove("net0").unwrap()));
    let error = place.try_open().unwrap_err().to_string();
    assert!(
        error.contains("network net0 is not in it") && error.contains("container web") && error.contains("2 in all"),
        "{error}"
    );
    let stored = place.open_as(rebuild(), &Gate::default()).unwrap().load().unwrap();
    assert!(stored.endpoints.is_empty() && stored.incomplete, "{stored:?}");
}

/// A file from elsewhere, or an older one, with a network of the same name.
#[test]
fn another_file_with_other_networks_is_refused() {
    let (place, network, endpoint) = filled();
    let (other, ..) = filled();
    let theirs = Network { id: crate::model::ids::NetworkId::from_random([1; 32]), ..network.clone() };
    other.open().commit(&[Record::PutNetwork(Box::new(theirs))]).unwrap();
    std::fs::copy(other.durable(), place.durable()).unwrap();
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains("its network net0 is not the net0 of this boot") && error.contains("--rebuild"), "{error}");
    let mut store = place.open_as(rebuild(), &Gate::default()).unwrap();
    let stored = store.load().unwrap();
    assert_eq!((stored.networks, stored.endpoints), (vec![network], vec![endpoint]));
    assert_eq!(store.set_aside().len(), 1, "the other file was kept");
}

/// An older state of the same file, as a backup of it has.
#[test]
fn an_older_file_gets_the_networks_that_are_in_use() {
    let (place, first, _) = filled();
    let old = std::fs::read(place.durable()).unwrap();
    let mut store = place.open();
    let (used, unused) = (network(1), network(2));
    store.commit(&[Record::PutNetwork(Box::new(used.clone())), Record::PutNetwork(Box::new(unused))]).unwrap();
    store.commit(&[Record::PutEndpoint(Box::new(endpoint(&used, "db")))]).unwrap();
    drop(store);
    std::fs::write(place.durable(), old).unwrap();
    let stored = place.load();
    assert_eq!(stored.networks, [first, used], "what nothing uses is as the file says");
    assert_eq!(stored.endpoints.len(), 2);
}

#[test]
fn a_missing_runtime_file_may_lack_endpoints() {
    let (place, network, _) = filled();
    std::fs::remove_file(place.runtime()).unwrap();
    let stored = place.load();
    assert_eq!((stored.networks, stored.incomplete), (vec![network], true));
    assert!(place.load().incomplete, "until the engine has looked");
    place.open().complete().unwrap();
    assert!(!place.load().incomplete);
}

#[test]
fn both_files_lost() {
    let (place, ..) = filled();
    std::fs::remove_file(place.durable()).unwrap();
    std::fs::write(place.runtime(), "damage").unwrap();
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains("is damaged") && error.contains("mount it"), "{error}");
    std::fs::write(place.durable(), "damage").unwrap();
    let mut store = place.open();
    assert!(store.load().unwrap().incomplete);
    let message = store.set_aside().join("\n");
    assert!(message.contains("netd restore") && message.contains("looked for in the kernel"), "{message}");
}
