//! The embedded store: two redb files with different lifetimes.
//!
//! `netd.redb` in the state directory contains networks, sticky addresses and settings, committed with fsync.
//! `endpoints.redb` in the runtime directory contains endpoints, reservations and released addresses, and a copy of the
//! other file; it is stamped with the boot id and made anew if that differs. Its commits reach the page cache only, because
//! a power failure removes what they describe as well, and a killed process does not lose the page cache. The rows of both
//! are also in memory: a file that was lost or damaged meanwhile is written again from them.
//!
//! A reservation is in the same file as the endpoint that consumes it, because one transaction must replace the one by
//! the other.

mod aside;
mod backend;
mod check;
mod copy;
mod create;
mod database;
mod decide;
mod file;
mod folders;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod meta;
mod open;
mod rows;

use std::io;
use std::path::Path;

pub use self::folders::Folders;
pub use self::open::Opening;

use self::file::StoreFile;
use self::gate::Gate;
use self::rows::{
    CONDITIONS, Change, ENDPOINTS, NETWORKS, POLICIES, RELEASED, RESERVATIONS, Rows, SERVICES, SETTINGS, STICKY,
    TURNED_ON, endpoint_key, values,
};
use super::{Record, Store, StoreError, Stored};
use crate::model::endpoint::Endpoint;

/// The durable file, in the state directory.
const DURABLE: &str = "netd.redb";
/// The file of this boot, in the runtime directory.
const UNTIL_BOOT: &str = "endpoints.redb";

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Both files, locked.
#[derive(Debug)]
pub struct Embedded {
    durable: StoreFile,
    until_boot: StoreFile,
    _folders: Folders,
}

/// Whether there is a file of a store in these directories.
pub fn exists(state_dir: &Path, runtime_dir: &Path) -> bool {
    [state_dir.join(DURABLE), runtime_dir.join(UNTIL_BOOT)].iter().any(|path| path.exists())
}

impl Embedded {
    /// Opens or makes both files. Fails if another netd has them open, or if the start would lose something.
    pub fn open(folders: Folders, opening: Opening<'_>) -> Result<Self, StoreError> {
        open::open(folders, opening, &Gate::default())
    }

    /// Opens files that could not be opened or are missing, and brings the copy up to date.
    fn settle(&mut self) -> Result<(), StoreError> {
        // Without an id there is no telling what the copy is of: a file of an earlier version gets one.
        let has_id = meta::state(self.durable.rows()).is_some();
        let opened = if has_id { self.durable.ready() } else { self.durable.commit(Vec::new()) };
        opened.map_err(|error| refused(self.durable.path(), error))?;
        let changes = copy::changes(self.durable.rows(), self.until_boot.rows());
        let copied = if changes.is_empty() { self.until_boot.ready() } else { self.until_boot.commit(changes) };
        copied.map_err(|error| refused(self.until_boot.path(), error))
    }
}

impl Store for Embedded {
    fn load(&mut self) -> Result<Stored, StoreError> {
        let path = self.until_boot.path().to_owned();
        let renamed = old_keys(self.until_boot.rows()).map_err(failed("read", &path, "a bug of netd"))?;
        if !renamed.is_empty() {
            self.until_boot.commit(renamed).map_err(|error| refused(&path, error))?;
        }
        stored(self.durable.rows(), self.until_boot.rows()).map_err(failed("read", &path, "a bug of netd"))
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let (durable, until_boot): (Vec<&Record>, Vec<&Record>) =
            records.iter().partition(|record| rows::is_durable(record));
        let path = self.durable.path().to_owned();
        let mut followed = None;
        if !durable.is_empty() || records.is_empty() {
            let changes =
                rows::changes(self.durable.rows(), &durable).map_err(failed("commit to", &path, "a bug of netd"))?;
            // To compare all rows would take longer the more there are.
            followed = copy::is_current(self.durable.rows(), self.until_boot.rows()).then(|| copy::follow(&changes));
            self.durable.commit(changes).map_err(|error| refused(&path, error))?;
        }
        let path = self.until_boot.path().to_owned();
        let mut changes = match followed {
            Some(changes) => changes.into_iter().chain([meta::source_of(self.durable.rows())]).collect(),
            None => copy::changes(self.durable.rows(), self.until_boot.rows()),
        };
        let own =
            rows::changes(self.until_boot.rows(), &until_boot).map_err(failed("commit to", &path, "a bug of netd"))?;
        changes.extend(own);
        match self.until_boot.commit(changes) {
            // The durable file has all of it; the copy follows.
            Err(error) if until_boot.is_empty() && !durable.is_empty() => {
                tracing::warn!("{}", refused(&path, error));
                Ok(())
            }
            done => done.map_err(|error| refused(&path, error)),
        }
    }

    fn complete(&mut self) -> Result<(), StoreError> {
        if !meta::is_incomplete(self.until_boot.rows()) {
            return Ok(());
        }
        let path = self.until_boot.path().to_owned();
        self.until_boot.commit(vec![meta::put_incomplete(false)]).map_err(|error| refused(&path, error))
    }

    fn trouble(&mut self) -> Option<StoreError> {
        let full =
            [&mut self.durable, &mut self.until_boot].map(|file| file.is_full().map(|why| refused(file.path(), why)));
        full.into_iter().flatten().next().or_else(|| self.settle().err())
    }

    fn set_aside(&self) -> Vec<String> {
        let files = [&self.durable, &self.until_boot];
        files.iter().flat_map(|file| aside::complaints(file.path(), file.rows())).collect()
    }

    fn files(&self) -> Vec<String> {
        [&self.durable, &self.until_boot].map(|file| file.path().display().to_string()).into()
    }

    fn destroy(&mut self) -> Result<(), StoreError> {
        for path in [self.durable.path(), self.until_boot.path()] {
            let gone = std::fs::remove_file(path);
            let gone =
                gone.or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) });
            gone.map_err(|error| failed("remove", path, "missing permissions?")(error.into()))?;
            // It stays if it has other files, or if the service manager has mounted it.
            let _ = path.parent().map(std::fs::remove_dir);
        }
        Ok(())
    }
}

fn stored(durable: &Rows, until_boot: &Rows) -> Result<Stored, Cause> {
    Ok(Stored {
        networks: values(durable, NETWORKS)?,
        services: values(durable, SERVICES)?,
        policies: values(durable, POLICIES)?,
        conditions: values(until_boot, CONDITIONS)?,
        sticky: values(durable, STICKY)?,
        settings: values::<(String, String)>(durable, SETTINGS)?.into_iter().collect(),
        endpoints: values(until_boot, ENDPOINTS)?,
        reservations: values(until_boot, RESERVATIONS)?,
        released: values(until_boot, RELEASED)?,
        turned_on: values(until_boot, TURNED_ON)?.pop().unwrap_or_default(),
        incomplete: meta::is_incomplete(until_boot),
    })
}

/// Migrates old keys. Endpoints were stored under network and container alone before a container could have several
/// interfaces on one network; a record left under such a key would outlive its endpoint.
fn old_keys(rows: &Rows) -> Result<Vec<Change>, Cause> {
    let Some(table) = rows.get(ENDPOINTS) else { return Ok(Vec::new()) };
    let endpoints: Vec<Endpoint> = values(rows, ENDPOINTS)?;
    let mut changes = Vec::new();
    for endpoint in endpoints {
        let old = format!("{}/{}", endpoint.network, endpoint.container.id);
        if table.contains_key(&old) {
            changes.push(Change::delete(ENDPOINTS, &old));
            changes.push(Change::put(ENDPOINTS, &endpoint_key(&endpoint.key()), &endpoint)?);
        }
    }
    Ok(changes)
}

fn failed(attempted: &'static str, path: &Path, look: &'static str) -> impl Fn(Cause) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError { attempted, path: path.clone(), source, look }
}

/// The error of a change that a file did not accept.
fn refused(path: &Path, error: Cause) -> StoreError {
    let look = look_for(&error);
    failed("commit to", path, look)(error)
}

/// What to look at, by the kernel's error.
fn look_for(error: &Cause) -> &'static str {
    use io::ErrorKind;
    let Some(error) = error.downcast_ref::<io::Error>() else { return "another netd? damage?" };
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::StorageFull | ErrorKind::QuotaExceeded, _) => "make room on its file system: see `df`",
        (ErrorKind::ReadOnlyFilesystem, _) => "mount its file system for writing",
        (ErrorKind::PermissionDenied, _) => "missing permissions?",
        (_, Some(libc::EMFILE | libc::ENFILE)) => "too many open files: see LimitNOFILE in systemd.exec(5)",
        (_, Some(libc::EIO)) => "an error of the disk: see `dmesg`",
        _ => "is its file system in order? see `dmesg`",
    }
}

#[cfg(test)]
mod tests;
