//! What a file holds: tables of rows, each a key and a value. A value is one byte of schema version, followed by JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cause;
use crate::model::endpoint::EndpointKey;
use crate::model::names::NetworkName;
use crate::store::Record;

/// The schema version of every record; a later netd writes higher ones.
pub(super) const SCHEMA: u8 = 1;

pub(super) const NETWORKS: &str = "networks";
pub(super) const SETTINGS: &str = "settings";
pub(super) const STICKY: &str = "sticky";
pub(super) const SERVICES: &str = "services";
pub(super) const POLICIES: &str = "policies";
pub(super) const CONDITIONS: &str = "conditions";
pub(super) const ENDPOINTS: &str = "endpoints";
pub(super) const RESERVATIONS: &str = "reservations";
pub(super) const RELEASED: &str = "released";
/// Forwarding that netd turned on: one row.
pub(super) const TURNED_ON: &str = "turned-on";
pub(super) const BOOT: &str = "boot";
/// About the file itself ([`super::meta`]).
pub(super) const META: &str = "meta";

/// Tables by name, rows by key.
pub(super) type Rows = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) table: String,
    pub(super) key: String,
    /// `None`: the row is deleted.
    pub(super) value: Option<Vec<u8>>,
}

impl Change {
    pub(super) fn put(table: &str, key: &str, value: &impl Serialize) -> Result<Self, Cause> {
        Ok(Self { table: table.to_owned(), key: key.to_owned(), value: Some(encode(value)?) })
    }

    pub(super) fn delete(table: &str, key: &str) -> Self {
        Self { table: table.to_owned(), key: key.to_owned(), value: None }
    }
}

/// The changes that records make.
#[derive(Debug)]
struct Batch<'a> {
    rows: &'a Rows,
    changes: Vec<Change>,
}

impl Batch<'_> {
    fn put(&mut self, table: &str, key: &str, value: &impl Serialize) -> Result<(), Cause> {
        self.changes.push(Change::put(table, key, value)?);
        Ok(())
    }

    fn delete(&mut self, table: &str, key: &str) {
        self.changes.push(Change::delete(table, key));
    }

    /// Deletes the rows of a network, whose keys begin with its name.
    fn delete_of(&mut self, table: &str, network: &NetworkName) {
        let start = format!("{network}/");
        let stored = self.rows.get(table).into_iter().flat_map(BTreeMap::keys);
        let new = self.changes.iter().filter(|change| change.table == table).map(|change| &change.key);
        let keys = stored.chain(new).filter(|key| key.starts_with(&start));
        let deleted: Vec<Change> = keys.map(|key| Change::delete(table, key)).collect();
        self.changes.extend(deleted);
    }
}

/// The changes that the records make to these rows, in order.
pub(super) fn changes(rows: &Rows, records: &[&Record]) -> Result<Vec<Change>, Cause> {
    let mut batch = Batch { rows, changes: Vec::new() };
    for record in records {
        match record {
            Record::PutNetwork(network) => batch.put(NETWORKS, network.name.as_str(), network)?,
            Record::DeleteNetwork(name) => {
                batch.delete(NETWORKS, name.as_str());
                batch.delete_of(STICKY, name);
            }
            Record::PutSticky(network, address, name) => {
                batch.put(STICKY, &address_key(network, *address), &(network, address, name))?;
            }
            Record::DeleteSticky(network, address) => batch.delete(STICKY, &address_key(network, *address)),
            Record::PutSetting(name, value) => batch.put(SETTINGS, name, &(name, value))?,
            Record::PutService(service) => batch.put(SERVICES, service.name.as_str(), service)?,
            Record::DeleteService(name) => batch.delete(SERVICES, name.as_str()),
            Record::PutPolicy(policy) => batch.put(POLICIES, &policy_key(policy.id), policy)?,
            Record::DeletePolicy(id) => batch.delete(POLICIES, &policy_key(*id)),
            Record::PutCondition(condition) => batch.put(CONDITIONS, condition.container.as_str(), condition)?,
            Record::DeleteCondition(container) => batch.delete(CONDITIONS, container.as_str()),
            Record::PutEndpoint(endpoint) => batch.put(ENDPOINTS, &endpoint_key(&endpoint.key()), endpoint)?,
            Record::DeleteEndpoint(endpoint) => batch.delete(ENDPOINTS, &endpoint_key(endpoint)),
            Record::PutReservation(reservation) => batch.put(RESERVATIONS, reservation.id.as_str(), reservation)?,
            Record::DeleteReservation(id) => batch.delete(RESERVATIONS, id.as_str()),
            Record::PutReleased(network, address, order) => {
                batch.put(RELEASED, &address_key(network, *address), &(network, address, order))?;
            }
            Record::PutTurnedOn(turned_on) => batch.put(TURNED_ON, "forwarding", turned_on)?,
            Record::DeleteReleased(network, address) => batch.delete(RELEASED, &address_key(network, *address)),
        }
    }
    Ok(batch.changes)
}

/// Sorted like the numbers.
fn policy_key(id: u64) -> String {
    format!("{id:020}")
}

/// Whether the record is one of those that survive a reboot.
pub(super) fn is_durable(record: &Record) -> bool {
    match record {
        Record::PutNetwork(_)
        | Record::DeleteNetwork(_)
        | Record::PutSticky(..)
        | Record::DeleteSticky(..)
        | Record::PutService(_)
        | Record::DeleteService(_)
        | Record::PutPolicy(_)
        | Record::DeletePolicy(_)
        | Record::PutSetting(..) => true,
        Record::PutEndpoint(_)
        | Record::PutCondition(_)
        | Record::DeleteCondition(_)
        | Record::DeleteEndpoint(_)
        | Record::PutReservation(_)
        | Record::DeleteReservation(_)
        | Record::PutReleased(..)
        | Record::DeleteReleased(..)
        | Record::PutTurnedOn(_) => false,
    }
}

/// Makes the changes.
pub(super) fn apply(rows: &mut Rows, changes: Vec<Change>) {
    for Change { table, key, value } in changes {
        match value {
            Some(value) => drop(rows.entry(table).or_default().insert(key, value)),
            None => drop(rows.get_mut(&table).and_then(|table| table.remove(&key))),
        }
    }
}

/// The changes that turn the rows of one table into those of another.
pub(super) fn difference(
    table: &str,
    now: Option<&BTreeMap<String, Vec<u8>>>,
    then: &BTreeMap<String, Vec<u8>>,
) -> Vec<Change> {
    let empty = BTreeMap::new();
    let now = now.unwrap_or(&empty);
    let gone = now.keys().filter(|key| !then.contains_key(*key)).map(|key| Change::delete(table, key));
    let changed = then.iter().filter(|(key, value)| now.get(*key) != Some(value));
    let changed =
        changed.map(|(key, value)| Change { table: table.to_owned(), key: key.clone(), value: Some(value.clone()) });
    gone.chain(changed).collect()
}

/// Neither names nor ids can contain a slash.
pub(super) fn endpoint_key(key: &EndpointKey) -> String {
    format!("{}/{}/{}", key.network, key.container, key.ifname)
}

fn address_key(network: &NetworkName, address: IpAddr) -> String {
    format!("{network}/{address}")
}

pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, Cause> {
    let mut bytes = vec![SCHEMA];
    serde_json::to_writer(&mut bytes, value)?;
    Ok(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Cause> {
    match bytes.split_first() {
        Some((&SCHEMA, json)) => Ok(serde_json::from_slice(json)?),
        Some((version, _)) => Err(format!("a record has schema {version}, this netd knows {SCHEMA}").into()),
        None => Err("an empty record".into()),
    }
}

/// All values of a table, in the order of their keys.
pub(super) fn values<T: DeserializeOwned>(rows: &Rows, table: &str) -> Result<Vec<T>, Cause> {
    rows.get(table).into_iter().flat_map(BTreeMap::values).map(|value| decode(value)).collect()
}
