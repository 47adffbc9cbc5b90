//! redb: opens files, reads and writes rows, and tells what an error means.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Database, ReadableDatabase, ReadableTable as _, TableDefinition, TableHandle as _};

use super::Cause;
use super::backend::{Storage, View, Written};
use super::rows::{Change, Rows};

/// Size of redb's page cache in bytes: netd stores little, and reads it only when it starts.
const CACHE: usize = 1 << 20;

type Table<'a> = TableDefinition<'a, &'static str, &'static [u8]>;

/// What an error says about a file.
#[derive(Debug)]
pub(super) enum Failure {
    /// The file does not hold what redb or netd wrote.
    Damage(String),
    /// The file cannot be read or written at the moment; it says nothing about its content.
    Environment(Cause),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(why) => f.write_str(why),
            Self::Environment(cause) => cause.fmt(f),
        }
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        use std::io::ErrorKind;
        match error {
            redb::Error::Io(cause) => match cause.kind() {
                // redb's words for a file that is not its own.
                ErrorKind::InvalidData => Self::Damage(cause.to_string()),
                ErrorKind::UnexpectedEof => Self::Damage("it is too short".to_owned()),
                _ => Self::Environment(cause.into()),
            },
            redb::Error::Corrupted(why) => Self::Damage(why),
            redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableIsMultimap(_) => Self::Damage(format!("another program wrote it: {error}")),
            other => Self::Environment(other.into()),
        }
    }
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Damage(why) => why.into(),
            Failure::Environment(cause) => cause,
        }
    }
}

/// Calls redb, which may panic if a file was changed behind its back.
fn guarded<T>(call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Ok(result?),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(Failure::Damage(format!("redb cannot work with it: {text}")))
        }
    }
}

/// Opens a file for writing; an empty one becomes a database. `sync`: commits reach the disk.
pub(super) fn open(storage: &Storage, sync: bool) -> Result<Database, Failure> {
    let backend = Written { storage: storage.clone(), sync };
    guarded(|| Ok(Database::builder().set_cache_size(CACHE).create_with_backend(backend)?))
}

/// Reads all rows, after it has checked every page. The file stays as it is.
pub(super) fn read(storage: &Storage) -> Result<Rows, Failure> {
    let view = View::of(storage).map_err(|error| Failure::Environment(error.into()))?;
    guarded(|| {
        let database =
            Database::builder().set_cache_size(CACHE).set_check_integrity_on_open(true).create_with_backend(view)?;
        rows_of(&database)
    })
}

fn rows_of(database: &Database) -> Result<Rows, redb::Error> {
    let transaction = database.begin_read()?;
    let names: Vec<String> = transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
    let mut rows = Rows::new();
    for name in names {
        let table = transaction.open_table(Table::new(&name))?;
        let rows = rows.entry(name.clone()).or_default();
        for row in table.iter()? {
            let (key, value) = row?;
            rows.insert(key.value().to_owned(), value.value().to_vec());
        }
    }
    Ok(rows)
}

/// Reads all rows of an open database.
pub(super) fn rows(database: &Database) -> Result<Rows, Failure> {
    guarded(|| rows_of(database))
}

/// Makes the changes in one transaction.
pub(super) fn write(database: &Database, changes: &[Change]) -> Result<(), Failure> {
    guarded(|| {
        let transaction = database.begin_write()?;
        for Change { table, key, value } in changes {
            let mut table = transaction.open_table(Table::new(table))?;
            match value {
                Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
                None => drop(table.remove(key.as_str())?),
            }
        }
        Ok(transaction.commit()?)
    })
}

/// Writes all rows into an empty database and closes it.
pub(super) fn fill(database: Database, rows: &Rows) -> Result<(), Failure> {
    guarded(|| {
        let transaction = database.begin_write()?;
        for (name, rows) in rows {
            let mut table = transaction.open_table(Table::new(name))?;
            for (key, value) in rows {
                table.insert(key.as_str(), value.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(database.close()?)
    })
}

/// Closes a database that may be unusable.
pub(super) fn close(database: Option<Database>) {
    // What it reports was reported by the call that failed.
    let _ = guarded(|| {
        drop(database);
        Ok(())
    });
}
