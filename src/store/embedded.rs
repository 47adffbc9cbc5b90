//! The embedded store: two redb files with different lifetimes.
//!
//! `netd.redb` in the state directory contains networks, sticky addresses and settings, committed with fsync.
//! `endpoints.redb` in the runtime directory contains endpoints, reservations and released addresses; it is stamped with
//! the boot id and discarded if that differs. Its commits reach the page cache only, because a power failure removes what
//! they describe as well, and a killed process does not lose the page cache. Each value is one byte of schema version,
//! followed by JSON.
//!
//! A reservation is in the same file as the endpoint that consumes it, because one transaction must replace the one by
//! the other.

mod folders;

use std::net::IpAddr;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::folders::Folders;

use super::{Record, Store, StoreError, Stored};
use crate::base::private;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::names::NetworkName;

/// The schema version of every record; a later netd writes higher ones.
const SCHEMA: u8 = 1;
/// Size of redb's page cache in bytes: netd stores little.
const CACHE: usize = 4 << 20;

const NETWORKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("networks");
const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");
const STICKY: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sticky");
const ENDPOINTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("endpoints");
const RESERVATIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("reservations");
const RELEASED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("released");
const BOOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("boot");

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Both files, open and locked.
#[derive(Debug)]
pub struct Embedded {
    durable: (PathBuf, Database),
    until_boot: (PathBuf, Database),
    _folders: Folders,
}

impl Embedded {
    /// Opens or creates `netd.redb` in the state directory and `endpoints.redb` in the runtime directory; the latter is
    /// recreated if it was written in another boot. Fails if another netd has them open.
    pub fn open(mut folders: Folders, boot_id: &str) -> Result<Self, StoreError> {
        folders.make()?;
        let durable = folders.state.join("netd.redb");
        let until_boot = folders.runtime.join("endpoints.redb");
        let look = "another netd with the same directories? missing permissions? a full disk?";
        let durable = open(&durable, true).map(|db| (durable.clone(), db)).map_err(failed("open", &durable, look))?;
        let database = open_of_this_boot(&until_boot, boot_id).map_err(failed("open", &until_boot, look))?;
        Ok(Self { durable, until_boot: (until_boot, database), _folders: folders })
    }
}

impl Store for Embedded {
    fn load(&mut self) -> Result<Stored, StoreError> {
        let look = "a file written by a later netd, or damaged: move it away to start with an empty store";
        let (path, database) = &self.durable;
        let networks = values(database, NETWORKS).map_err(failed("read", path, look))?;
        let sticky = values(database, STICKY).map_err(failed("read", path, look))?;
        let settings = values(database, SETTINGS).map_err(failed("read", path, look))?;
        let (path, database) = &self.until_boot;
        let endpoints: Vec<Endpoint> = values(database, ENDPOINTS).map_err(failed("read", path, look))?;
        rekey(database, &endpoints).map_err(failed("write", path, look))?;
        let reservations = values(database, RESERVATIONS).map_err(failed("read", path, look))?;
        let released = values(database, RELEASED).map_err(failed("read", path, look))?;
        Ok(Stored { networks, endpoints, reservations, released, sticky, settings: settings.into_iter().collect() })
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let (durable, until_boot): (Vec<&Record>, Vec<&Record>) = records.iter().partition(|record| is_durable(record));
        for ((path, database), records) in [(&self.durable, durable), (&self.until_boot, until_boot)] {
            if !records.is_empty() {
                write(database, &records).map_err(failed("commit to", path, "is the disk full?"))?;
            }
        }
        Ok(())
    }
}

fn is_durable(record: &Record) -> bool {
    match record {
        Record::PutNetwork(_)
        | Record::DeleteNetwork(_)
        | Record::PutSticky(..)
        | Record::DeleteSticky(..)
        | Record::PutSetting(..) => true,
        Record::PutEndpoint(_)
        | Record::DeleteEndpoint(_)
        | Record::PutReservation(_)
        | Record::DeleteReservation(_)
        | Record::PutReleased(..)
        | Record::DeleteReleased(..) => false,
    }
}

fn failed(attempted: &'static str, path: &Path, look: &'static str) -> impl Fn(Cause) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError { attempted, path: path.clone(), source, look }
}

fn write(database: &Database, records: &[&Record]) -> Result<(), Cause> {
    let transaction = database.begin_write()?;
    for record in records {
        let put = |table, key: &str, value: Result<Vec<u8>, Cause>| -> Result<(), Cause> {
            transaction.open_table(table)?.insert(key, value?.as_slice())?;
            Ok(())
        };
        let delete = |table, key: &str| -> Result<(), Cause> {
            transaction.open_table(table)?.remove(key)?;
            Ok(())
        };
        match record {
            Record::PutNetwork(network) => put(NETWORKS, network.name.as_str(), encode(network))?,
            Record::DeleteNetwork(name) => {
                delete(NETWORKS, name.as_str())?;
                // '0' is the character after '/'.
                let (first, end) = (format!("{name}/"), format!("{name}0"));
                transaction.open_table(STICKY)?.retain_in(first.as_str()..end.as_str(), |_, _| false)?;
            }
            Record::PutSticky(network, address, name) => {
                put(STICKY, &address_key(network, *address), encode(&(network, address, name)))?;
            }
            Record::DeleteSticky(network, address) => delete(STICKY, &address_key(network, *address))?,
            Record::PutSetting(name, value) => put(SETTINGS, name, encode(&(name, value)))?,
            Record::PutEndpoint(endpoint) => put(ENDPOINTS, &key(&endpoint.key()), encode(endpoint))?,
            Record::DeleteEndpoint(endpoint) => delete(ENDPOINTS, &key(endpoint))?,
            Record::PutReservation(reservation) => {
                put(RESERVATIONS, reservation.id.as_str(), encode(reservation))?;
            }
            Record::DeleteReservation(id) => delete(RESERVATIONS, id.as_str())?,
            Record::PutReleased(network, address, order) => {
                put(RELEASED, &address_key(network, *address), encode(&(network, address, order)))?;
            }
            Record::DeleteReleased(network, address) => delete(RELEASED, &address_key(network, *address))?,
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Neither names nor ids can contain a slash.
fn key(key: &EndpointKey) -> String {
    format!("{}/{}/{}", key.network, key.container, key.ifname)
}

/// Migrates old keys. Endpoints were stored under network and container alone before a container could have several
/// interfaces on one network; a record left under such a key would outlive its endpoint.
fn rekey(database: &Database, endpoints: &[Endpoint]) -> Result<(), Cause> {
    let old = |endpoint: &Endpoint| format!("{}/{}", endpoint.network, endpoint.container.id);
    let stale: Vec<&Endpoint> = {
        let transaction = database.begin_read()?;
        let table = match transaction.open_table(ENDPOINTS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let is_old = |endpoint: &&Endpoint| table.get(old(endpoint).as_str()).map(|found| found.is_some());
        endpoints.iter().map(|endpoint| Ok((is_old(&endpoint)?, endpoint))).collect::<Result<Vec<_>, Cause>>()?
    }
    .into_iter()
    .filter_map(|(stale, endpoint)| stale.then_some(endpoint))
    .collect();
    if stale.is_empty() {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ENDPOINTS)?;
        for endpoint in stale {
            table.remove(old(endpoint).as_str())?;
            table.insert(key(&endpoint.key()).as_str(), encode(endpoint)?.as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn address_key(network: &NetworkName, address: IpAddr) -> String {
    format!("{network}/{address}")
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Cause> {
    let mut bytes = vec![SCHEMA];
    serde_json::to_writer(&mut bytes, value)?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Cause> {
    match bytes.split_first() {
        Some((&SCHEMA, json)) => Ok(serde_json::from_slice(json)?),
        Some((version, _)) => Err(format!("a record has schema {version}, this netd knows {SCHEMA}").into()),
        None => Err("an empty record".into()),
    }
}

fn values<T: DeserializeOwned>(
    database: &Database,
    table: TableDefinition<'_, &'static str, &'static [u8]>,
) -> Result<Vec<T>, Cause> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(table) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut values = Vec::new();
    for entry in table.iter()? {
        values.push(decode(entry?.1.value())?);
    }
    Ok(values)
}

fn open(path: &Path, sync: bool) -> Result<Database, Cause> {
    let file = private::file(path)?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    let backend = PageCache { file: redb::backends::FileBackend::new(file)?, sync };
    Ok(builder.create_with_backend(backend)?)
}

/// Opens the file if it was written in this boot; otherwise recreates it.
fn open_of_this_boot(path: &Path, boot_id: &str) -> Result<Database, Cause> {
    let database = open(path, false)?;
    let boots: Vec<String> = values(&database, BOOT)?;
    if boots.first().map(String::as_str) == Some(boot_id) {
        return Ok(database);
    }
    let database = if boots.is_empty() {
        database
    } else {
        drop(database);
        std::fs::remove_file(path)?;
        open(path, false)?
    };
    let transaction = database.begin_write()?;
    transaction.open_table(BOOT)?.insert("id", encode(&boot_id)?.as_slice())?;
    transaction.commit()?;
    Ok(database)
}

/// A file whose commits need not reach the disk if `sync` is false.
#[derive(Debug)]
struct PageCache {
    file: redb::backends::FileBackend,
    sync: bool,
}

impl redb::StorageBackend for PageCache {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), std::io::Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), redb::BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), redb::BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), redb::BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests;
