//! The two files: what survives which kind of end, and how a file of another release or boot is treated.

use super::*;
use crate::logic::samples;
use crate::model::address::Mac;
use crate::model::network::{HostAccess, Network};
use crate::model::reservation::Reservation;

fn open_in(state: &Path, runtime: &Path, boot: &str) -> Result<Embedded, StoreError> {
    Embedded::open(Folders::claim(state, runtime)?, boot)
}

fn filled(state: &Path, runtime: &Path) -> (Network, Endpoint) {
    let network = samples::network("net1", &["10.0.0.0/24"]);
    let endpoint = samples::endpoint(&network, "web", 1, &["10.0.0.2"], &["4000:80"]);
    let mut store = open_in(state, runtime, "boot-1").unwrap();
    let address = "10.0.0.9".parse().unwrap();
    let records = [
        Record::PutNetwork(network.clone()),
        Record::PutEndpoint(Box::new(endpoint.clone())),
        Record::PutReservation(Box::new(reservation(&network))),
        Record::PutReleased(network.name.clone(), address, 7),
        Record::PutSticky(network.name.clone(), address, "db".parse().unwrap()),
        Record::PutSetting("ula-prefix".into(), "fd00::/48".into()),
    ];
    store.commit(&records).unwrap();
    (network, endpoint)
}

fn reservation(network: &Network) -> Reservation {
    let address: IpAddr = "10.0.0.5".parse().unwrap();
    let ports = samples::endpoint(network, "web", 1, &["10.0.0.2"], &["4001:80"]).publications;
    Reservation {
        id: "r1".parse().unwrap(),
        network: network.name.clone(),
        addresses: vec![network.subnets[0].subnet.interface(address)],
        mac: Mac::for_address(address),
        publications: ports,
        created: 7,
    }
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let (state, runtime) = (folder.path().join("state"), folder.path().join("run"));
    let (network, endpoint) = filled(&state, &runtime);
    let stored = open_in(&state, &runtime, "boot-1").unwrap().load().unwrap();
    assert_eq!(stored.networks, std::slice::from_ref(&network));
    assert_eq!((stored.endpoints, stored.reservations), (vec![endpoint], vec![reservation(&network)]));
    let address = "10.0.0.9".parse().unwrap();
    assert_eq!(stored.released, [(network.name.clone(), address, 7)]);
    assert_eq!(stored.sticky, [(network.name, address, "db".parse().unwrap())]);
    assert_eq!(stored.settings["ula-prefix"], "fd00::/48");
}

#[test]
fn a_reboot_keeps_networks_and_forgets_endpoints_and_reservations() {
    let folder = tempfile::tempdir().unwrap();
    let (state, runtime) = (folder.path().join("state"), folder.path().join("run"));
    let (network, _) = filled(&state, &runtime);
    let stored = open_in(&state, &runtime, "boot-2").unwrap().load().unwrap();
    assert_eq!(stored.networks, [network]);
    assert!(stored.endpoints.is_empty() && stored.reservations.is_empty() && stored.released.is_empty());
    assert_eq!(stored.sticky.len(), 1);
}

#[test]
fn an_endpoint_takes_the_place_of_its_reservation_in_one_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let (network, _) = filled(folder.path(), folder.path());
    let mut store = Embedded::open(folder.path(), folder.path(), "boot-1").unwrap();
    let endpoint = samples::endpoint(&network, "db", 2, &["10.0.0.5"], &["4001:80"]);
    let (delete, put) =
        (Record::DeleteReservation("r1".parse().unwrap()), Record::PutEndpoint(Box::new(endpoint.clone())));
    assert!(!is_durable(&delete) && !is_durable(&put), "both are in one file");
    store.commit(&[delete, put]).unwrap();
    let stored = store.load().unwrap();
    assert!(stored.reservations.is_empty() && stored.endpoints.contains(&endpoint));
}

#[test]
fn a_network_takes_along_the_addresses_that_it_keeps_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (network, _) = filled(folder.path(), folder.path());
    let mut store = open_in(folder.path(), folder.path(), "boot-1").unwrap();
    let longer: NetworkName = "net1-b".parse().unwrap();
    let kept = |network: &NetworkName| Record::PutSticky(network.clone(), [10, 0, 0, 2].into(), "web".parse().unwrap());
    store.commit(&[kept(&network.name), kept(&longer)]).unwrap();
    store.commit(&[Record::DeleteSticky(network.name.clone(), [10, 0, 0, 2].into())]).unwrap();
    assert_eq!(store.load().unwrap().sticky.len(), 2);
    store.commit(&[Record::DeleteNetwork(network.name)]).unwrap();
    assert_eq!(store.load().unwrap().sticky, [(longer, [10, 0, 0, 2].into(), "web".parse().unwrap())]);
}

#[test]
fn a_network_of_the_first_release_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), folder.path(), "boot-1").unwrap();
    let json = format!(
        r#"{{"name":"db","id":"{}","driver":{{"driver":"bridge","name":"nd-db","icc":true,"masquerade":true}},
            "subnets":[{{"subnet":"10.0.0.0/24","gateway":"10.0.0.1","range":null}}],"internal":true,"mtu":1500,
            "labels":{{}},"created":7}}"#,
        "0".repeat(64)
    );
    let transaction = store.durable.1.begin_write().unwrap();
    let record = [&[SCHEMA], json.as_bytes()].concat();
    transaction.open_table(NETWORKS).unwrap().insert("db", record.as_slice()).unwrap();
    transaction.commit().unwrap();
    let stored = store.load().unwrap();
    let [network] = stored.networks.as_slice() else { panic!("{stored:?}") };
    assert_eq!((network.host_access, network.sticky), (HostAccess::All, false));
    assert_eq!(network.dns, Default::default());
}

#[test]
fn a_second_daemon_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (state, runtime) = (folder.path().join("state"), folder.path().join("run"));
    let _first = open_in(&state, &runtime, "boot-1").unwrap();
    let error = open_in(&state, &runtime, "boot-1").unwrap_err().to_string();
    assert!(error.contains("another netd"), "{error}");
}

#[test]
fn an_endpoint_of_the_first_release_can_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (_, endpoint) = filled(folder.path(), folder.path());
    let mut store = open_in(folder.path(), folder.path(), "boot-1").unwrap();
    let transaction = store.until_boot.1.begin_write().unwrap();
    {
        let mut table = transaction.open_table(ENDPOINTS).unwrap();
        let record = table.remove(key(&endpoint.key()).as_str()).unwrap().unwrap().value().to_vec();
        let old = format!("{}/{}", endpoint.network, endpoint.container.id);
        table.insert(old.as_str(), record.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    assert_eq!(store.load().unwrap().endpoints, std::slice::from_ref(&endpoint));
    store.commit(&[Record::DeleteEndpoint(endpoint.key())]).unwrap();
    assert_eq!(store.load().unwrap().endpoints, []);
}

#[test]
fn a_record_of_a_later_schema_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), folder.path(), "boot-1").unwrap();
    let transaction = store.durable.1.begin_write().unwrap();
    transaction.open_table(NETWORKS).unwrap().insert("net1", [SCHEMA + 1, b'{'].as_slice()).unwrap();
    transaction.commit().unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(error.contains("schema 2") && error.contains("move it away"), "{error}");
}
