//! The two files: what survives which kind of end, and how a file of another release or boot is treated.

mod damaged;
mod failing;
mod killed;
mod lost;
mod released;

use std::net::IpAddr;
use std::path::PathBuf;

use redb::{Database, TableDefinition};
use tempfile::TempDir;

use super::*;
use crate::logic::samples;
use crate::model::address::Mac;
use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;
use crate::model::network::{HostAccess, Network};
use crate::model::reservation::Reservation;

/// The directories of a daemon.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        // There are thousands of them: a disk would take minutes to sync.
        Self(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    /// Another one with the same files.
    fn copied(&self) -> Self {
        let copy = Self::new();
        for from in [self.durable(), self.runtime()] {
            let to = copy.0.path().join(from.strip_prefix(self.0.path()).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            if from.exists() {
                std::fs::copy(from, to).unwrap();
            }
        }
        copy
    }

    fn durable(&self) -> PathBuf {
        self.0.path().join("state/netd.redb")
    }

    fn runtime(&self) -> PathBuf {
        self.0.path().join("run/endpoints.redb")
    }

    fn open_as(&self, opening: Opening<'_>, gate: &Gate) -> Result<Embedded, StoreError> {
        open::open(Folders::claim(&self.0.path().join("state"), &self.0.path().join("run"))?, opening, gate)
    }

    fn try_open(&self) -> Result<Embedded, StoreError> {
        self.open_as(opening("boot-1"), &Gate::default())
    }

    #[track_caller]
    fn open(&self) -> Embedded {
        self.try_open().unwrap()
    }

    /// What the next start loads.
    #[track_caller]
    fn load(&self) -> Stored {
        self.open().load().unwrap()
    }

    /// The names of the files.
    fn names(&self) -> Vec<String> {
        let folders = ["state", "run"].map(|folder| std::fs::read_dir(self.0.path().join(folder)));
        let entries = folders.into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn opening(boot_id: &str) -> Opening<'_> {
    Opening { boot_id, rebuild: false }
}

fn network(n: u8) -> Network {
    samples::network(&format!("net{n}"), &[&format!("10.0.{n}.0/24")])
}

fn endpoint(network: &Network, name: &str) -> Endpoint {
    let address = network.subnets[0].subnet.address(network.subnets[0].subnet.bounds().0 + 2).unwrap();
    samples::endpoint(network, name, 1, &[&address.to_string()], &["4000:80"])
}

/// A place with a network, an endpoint, a released and a sticky address and a setting.
fn filled() -> (Place, Network, Endpoint) {
    let place = Place::new();
    let network = network(0);
    let endpoint = endpoint(&network, "web");
    let address = "10.0.0.9".parse().unwrap();
    let records = [
        Record::PutNetwork(Box::new(network.clone())),
        Record::PutEndpoint(Box::new(endpoint.clone())),
        Record::PutReservation(Box::new(reservation(&network))),
        Record::PutReleased(network.name.clone(), address, 7),
        Record::PutSticky(network.name.clone(), address, "db".parse().unwrap()),
        Record::PutSetting("ula-prefix".into(), "fd00::/48".into()),
    ];
    let mut store = place.open();
    store.commit(&records).unwrap();
    store.complete().unwrap();
    (place, network, endpoint)
}

/// Changes the rows of a closed file, as another program would.
fn edit(path: &Path, table: &str, edit: impl FnOnce(&mut redb::Table<'_, &'static str, &'static [u8]>)) {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    edit(&mut transaction.open_table(TableDefinition::new(table)).unwrap());
    transaction.commit().unwrap();
}

/// A reservation, in the file of the endpoints.
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
    let (place, network, endpoint) = filled();
    let stored = place.load();
    assert_eq!(stored.networks, std::slice::from_ref(&network));
    assert_eq!((stored.endpoints, stored.reservations), (vec![endpoint], vec![reservation(&network)]));
    let address = "10.0.0.9".parse().unwrap();
    assert_eq!(stored.released, [(network.name.clone(), address, 7)]);
    assert_eq!(stored.sticky, [(network.name, address, "db".parse().unwrap())]);
    assert_eq!(stored.settings["ula-prefix"], "fd00::/48");
    assert!(!stored.incomplete);
}

#[test]
fn a_reboot_keeps_networks_and_forgets_endpoints_and_reservations() {
    let (place, network, _) = filled();
    let stored = place.open_as(opening("boot-2"), &Gate::default()).unwrap().load().unwrap();
    assert_eq!(stored.networks, [network]);
    assert!(stored.endpoints.is_empty() && stored.reservations.is_empty() && stored.released.is_empty());
    assert_eq!(stored.sticky.len(), 1);
    assert!(stored.incomplete, "whether the kernel has endpoints is not known yet");
}

#[test]
fn an_endpoint_takes_the_place_of_its_reservation_in_one_transaction() {
    let (place, network, _) = filled();
    let mut store = place.open();
    let endpoint = samples::endpoint(&network, "db", 2, &["10.0.0.5"], &["4001:80"]);
    let (delete, put) =
        (Record::DeleteReservation("r1".parse().unwrap()), Record::PutEndpoint(Box::new(endpoint.clone())));
    assert!(!rows::is_durable(&delete) && !rows::is_durable(&put), "both are in one file");
    store.commit(&[delete, put]).unwrap();
    let stored = store.load().unwrap();
    assert!(stored.reservations.is_empty() && stored.endpoints.contains(&endpoint));
}

#[test]
fn a_network_takes_along_the_addresses_that_it_keeps_and_no_others() {
    let (place, network, _) = filled();
    let mut store = place.open();
    let longer: NetworkName = "net0-b".parse().unwrap();
    let kept = |network: &NetworkName| Record::PutSticky(network.clone(), [10, 0, 0, 2].into(), "web".parse().unwrap());
    store.commit(&[kept(&network.name), kept(&longer)]).unwrap();
    store.commit(&[Record::DeleteSticky(network.name.clone(), [10, 0, 0, 2].into())]).unwrap();
    assert_eq!(store.load().unwrap().sticky.len(), 2);
    store.commit(&[kept(&network.name), Record::DeleteNetwork(network.name)]).unwrap();
    assert_eq!(store.load().unwrap().sticky, [(longer, [10, 0, 0, 2].into(), "web".parse().unwrap())]);
}

#[test]
fn a_network_of_the_first_release_is_as_it_was() {
    let (place, ..) = filled();
    let json = format!(
        r#"{{"name":"db","id":"{}","driver":{{"driver":"bridge","name":"nd-db","icc":true,"masquerade":true}},
            "subnets":[{{"subnet":"10.0.9.0/24","gateway":"10.0.9.1","range":null}}],"internal":true,"mtu":1500,
            "labels":{{}},"created":7}}"#,
        "0".repeat(64)
    );
    let record = [&[rows::SCHEMA], json.as_bytes()].concat();
    edit(&place.durable(), NETWORKS, |table| drop(table.insert("db", record.as_slice()).unwrap()));
    let stored = place.load();
    let network = stored.networks.iter().find(|network| network.name.as_str() == "db").unwrap();
    assert_eq!((network.host_access, network.sticky), (HostAccess::All, false));
    assert_eq!(network.dns, Default::default());
}

#[test]
fn a_second_daemon_is_refused() {
    let (place, ..) = filled();
    let _first = place.open();
    let error = place.try_open().unwrap_err().to_string();
    assert!(error.contains("another netd"), "{error}");
    // The first release locked the files only.
    let other = Place::new();
    for path in [place.durable(), place.runtime()] {
        let to = other.0.path().join(path.strip_prefix(place.0.path()).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::hard_link(path, to).unwrap();
    }
    let error = other.try_open().unwrap_err().to_string();
    assert!(error.contains("another netd has it open"), "{error}");
}

#[test]
fn an_endpoint_of_the_first_release_can_be_deleted() {
    let (place, _, endpoint) = filled();
    edit(&place.runtime(), ENDPOINTS, |table| {
        let record = table.remove(endpoint_key(&endpoint.key()).as_str()).unwrap().unwrap().value().to_vec();
        let old = format!("{}/{}", endpoint.network, endpoint.container.id);
        table.insert(old.as_str(), record.as_slice()).unwrap();
    });
    let mut store = place.open();
    assert_eq!(store.load().unwrap().endpoints, std::slice::from_ref(&endpoint));
    store.commit(&[Record::DeleteEndpoint(endpoint.key())]).unwrap();
    assert_eq!(store.load().unwrap().endpoints, []);
}

#[test]
fn files_are_closed_to_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let (place, ..) = filled();
    for path in [place.durable(), place.runtime()] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    drop(place.open());
    for path in [place.durable(), place.runtime()] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    }
}
