//! Makes the files: a new file is complete before it gets its name, so that a process that is killed, or a full disk,
//! leaves the old file, or none, or the new one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::Database;

use super::Cause;
use super::backend::Storage;
use super::database;
use super::gate::{Call, Gate};
use super::rows::Rows;
use crate::base::private;

/// The end of the name of a file that is being made.
const DRAFT: &str = "new";

fn draft(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(DRAFT);
    name.into()
}

/// Removes what a process left that was killed while it made the file.
pub(super) fn remove_draft(path: &Path, gate: &Gate) -> io::Result<()> {
    let draft = draft(path);
    // Whether a read-only file system has it is seen before it refuses to remove it.
    if fs::symlink_metadata(&draft).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    gate.pass(Call::Remove)?;
    fs::remove_file(&draft)
}

/// Makes a file with these rows, in place of the one with that name. `sync`: it is on the disk when this returns.
/// If it fails, what was there still is.
pub(super) fn create(path: &Path, rows: &Rows, sync: bool, gate: &Gate) -> Result<(Storage, Database), Cause> {
    let folder = path.parent().ok_or("it is in no directory")?;
    private::folder(folder)?;
    remove_draft(path, gate)?;
    let draft = draft(path);
    gate.pass(Call::Open)?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(private::FILE).open(&draft)?;
    let made = fill(file, rows, sync, gate).and_then(|storage| {
        gate.pass(Call::Rename)?;
        fs::rename(&draft, path)?;
        if sync {
            gate.pass(Call::Sync)?;
            File::open(folder)?.sync_all()?;
        }
        Ok(storage)
    });
    let storage = made.inspect_err(|_| {
        // The next start removes what cannot be removed now.
        let _ = remove_draft(path, gate);
    })?;
    let database = database::open(&storage, sync)?;
    Ok((storage, database))
}

fn fill(file: File, rows: &Rows, sync: bool, gate: &Gate) -> Result<Storage, Cause> {
    file.try_lock()?;
    let storage = Storage::new(file, gate.clone());
    // One sync at the end suffices: until it is done, the file has another name.
    let database = database::open(&storage, false)?;
    database::fill(database, rows)?;
    if sync {
        storage.sync()?;
    }
    Ok(storage)
}
