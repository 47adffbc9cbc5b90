//! One file of the store, and its rows in memory. An error of the file passes: the file is opened again, or written anew
//! from the rows.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::fstatvfs;
use redb::Database;

use super::backend::Storage;
use super::database::{self, Failure};
use super::gate::{Call, Gate};
use super::rows::{self, Change, Rows};
use super::{Cause, aside, create, meta};
use crate::base::private;

/// A file. Invariant: while its database is open, it holds `rows`.
#[derive(Debug)]
pub(super) struct StoreFile {
    path: PathBuf,
    /// Device and inode of the directory that it was opened in.
    folder: Option<(u64, u64)>,
    /// Whether commits reach the disk before they are acknowledged.
    sync: bool,
    gate: Gate,
    storage: Storage,
    /// `None` after an error: it is opened before the next change.
    database: Option<Database>,
    /// What was acknowledged.
    rows: Rows,
    /// Whether its file system was full at the last refused change.
    full: bool,
}

/// How much must be free in a file system that was full, in bytes: some changes need little, but others as much.
const ROOM: u64 = 1 << 20;

/// What has the path of the file.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// The open file, as far as is known.
    Ours,
    Nothing,
    Another,
    /// Another one, in another directory, which was mounted or made there meanwhile.
    Elsewhere,
}

impl StoreFile {
    /// Makes a file with these rows, in place of the one with that name.
    pub(super) fn create(path: &Path, sync: bool, gate: &Gate, mut rows: Rows) -> Result<Self, Cause> {
        let missing = meta::missing(&rows);
        rows::apply(&mut rows, missing);
        let (storage, database) = create::create(path, &rows, sync, gate)?;
        let mut file = Self::of(path, sync, gate, storage, rows);
        file.database = Some(database);
        Ok(file)
    }

    /// A file that holds these rows; it is opened before the first change.
    pub(super) fn of(path: &Path, sync: bool, gate: &Gate, storage: Storage, rows: Rows) -> Self {
        let (gate, database, full) = (gate.clone(), None, false);
        Self { path: path.to_owned(), folder: folder_of(path), sync, gate, storage, database, rows, full }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Makes the changes, all or none. An error says that none was made. Without changes it tries whether the file can be
    /// written.
    pub(super) fn commit(&mut self, mut changes: Vec<Change>) -> Result<(), Cause> {
        self.ready()?;
        let Some(database) = &self.database else { return Err("it is not open".into()) };
        changes.extend(meta::missing(&self.rows));
        changes.push(meta::put_revision(meta::revision(&self.rows) + 1));
        let written = database::write(database, &changes);
        if written.is_ok() {
            rows::apply(&mut self.rows, changes);
            return Ok(());
        }
        self.full = matches!(&written, Err(Failure::Environment(error)) if is_full(error));
        // redb refuses everything from now on. Whether it had written all of it is seen when the file is open again.
        let mut after = self.rows.clone();
        rows::apply(&mut after, changes);
        let opened = self.open_own();
        match opened {
            // A sync that failed is not made up for by a later one.
            Ok((database, found)) if found == after && !self.storage.is_unsynced() => {
                (self.database, self.rows) = (Some(database), after);
                return Ok(());
            }
            Ok((database, found)) if found == self.rows => self.database = Some(database),
            Ok((database, _)) => {
                database::close(Some(database));
                // If the file cannot be written anew now, that is done before the next change.
                let _ = self.ready();
            }
            Err(_) => {}
        }
        Ok(written?)
    }

    /// Why changes may be refused although some are accepted: the file system was full, and still is.
    pub(super) fn is_full(&mut self) -> Option<Cause> {
        let space = fstatvfs(self.storage.file()).ok().filter(|_| self.full)?;
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        self.full = free < ROOM;
        self.full.then(|| io::Error::from_raw_os_error(libc::ENOSPC).into())
    }

    /// Makes the file hold what was acknowledged, and opens it for writing.
    pub(super) fn ready(&mut self) -> Result<(), Cause> {
        match self.place() {
            Place::Ours if self.database.is_some() => return Ok(()),
            Place::Nothing => return self.renew(),
            Place::Another => return self.adopt().or_else(|_| self.replace("another program put it there")),
            Place::Elsewhere => return self.adopt().map_err(|_| ELSEWHERE.into()),
            Place::Ours => {}
        }
        let opened = self.open_own();
        match opened {
            Ok((database, found)) if found == self.rows => self.database = Some(database),
            Ok((database, _)) => {
                database::close(Some(database));
                self.renew()?;
            }
            Err(Failure::Damage(why)) => self.replace(&why)?,
            // The same path can lead to it through another mount, and now to a file that can be written.
            Err(Failure::Environment(error)) => self.adopt().map_err(|again| {
                // The descriptor is one for reading if its file system was read-only.
                let is_for_reading =
                    error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(libc::EBADF));
                if is_for_reading { again } else { error }
            })?,
        }
        Ok(())
    }

    fn place(&self) -> Place {
        let same = |found: &fs::Metadata| {
            let ours = self.storage.file().metadata();
            ours.is_ok_and(|ours| (ours.dev(), ours.ino()) == (found.dev(), found.ino()))
        };
        match fs::metadata(&self.path) {
            Ok(found) if !same(&found) && folder_of(&self.path) != self.folder => Place::Elsewhere,
            Ok(found) if !same(&found) => Place::Another,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Place::Nothing,
            _ => Place::Ours,
        }
    }

    fn open_own(&mut self) -> Result<(Database, Rows), Failure> {
        let storage = self.storage.clone();
        self.open(&storage)
    }

    /// Opens a database, after the one that may be open was closed, and reads its rows.
    fn open(&mut self, storage: &Storage) -> Result<(Database, Rows), Failure> {
        database::close(self.database.take());
        let database = database::open(storage, self.sync)?;
        match database::rows(&database) {
            Ok(rows) => Ok((database, rows)),
            Err(failure) => {
                database::close(Some(database));
                Err(failure)
            }
        }
    }

    /// Opens what has the path, if it holds what was acknowledged.
    fn adopt(&mut self) -> Result<(), Cause> {
        let storage = open_at(&self.path, &self.gate)?;
        if self.place() == Place::Ours {
            // The lock is the file's, and must be given up to be taken through the new descriptor.
            self.storage = storage.clone();
        }
        storage.file().try_lock()?;
        // Opening it would change it.
        if database::read(&storage)? != self.rows {
            return Err("it holds something else".into());
        }
        let (database, _) = self.open(&storage)?;
        (self.storage, self.database, self.folder) = (storage, Some(database), folder_of(&self.path));
        Ok(())
    }

    /// Sets aside what has the path, and writes the file anew.
    fn replace(&mut self, why: &str) -> Result<(), Cause> {
        database::close(self.database.take());
        let name = aside::set_aside(&self.path, &self.gate)?;
        rows::apply(&mut self.rows, vec![aside::note(&name, why, "nothing was lost")]);
        self.renew()
    }

    /// Writes the file anew.
    fn renew(&mut self) -> Result<(), Cause> {
        database::close(self.database.take());
        let (storage, database) = create::create(&self.path, &self.rows, self.sync, &self.gate)?;
        (self.storage, self.database, self.folder) = (storage, Some(database), folder_of(&self.path));
        Ok(())
    }
}

/// Why changes are refused while another directory has the path.
const ELSEWHERE: &str =
    "its directory was replaced or mounted over, and has another such file: restart netd to use that one";

/// Device and inode of the directory.
fn folder_of(path: &Path) -> Option<(u64, u64)> {
    let folder = fs::metadata(path.parent()?).ok()?;
    Some((folder.dev(), folder.ino()))
}

fn is_full(error: &Cause) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull)
}

/// Opens a file for writing, without a lock.
fn open_at(path: &Path, gate: &Gate) -> io::Result<Storage> {
    gate.pass(Call::Open)?;
    Ok(Storage::new(OpenOptions::new().read(true).write(true).open(path)?, gate.clone()))
}

/// What a start finds at a path.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    /// A file of netd. Its rows may be of a later netd.
    File(Storage, Rows),
    /// Something that is not, or no longer, a file of netd: why.
    Damaged(String),
}

/// Looks at what has the path, and changes nothing there. An error says nothing about the content.
pub(super) fn find(path: &Path, gate: &Gate) -> Result<Found, Cause> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(found) if found.is_dir() => return Ok(Found::Damaged("it is a directory".to_owned())),
        Ok(_) => return Ok(Found::Damaged("it is no regular file".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::read_link(path) {
                Ok(to) => Err(format!("it is a link to {}, where nothing is", to.display()).into()),
                Err(_) => Ok(Found::Nothing),
            };
        }
        Err(error) => return Err(error.into()),
    }
    let storage = match open_at(path, gate) {
        // It is opened for writing as soon as that is possible.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            Storage::new(File::open(path)?, gate.clone())
        }
        opened => opened?,
    };
    // A read-only file system refuses it.
    let _ = private::file(storage.file());
    storage.file().try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => Cause::from("another netd has it open"),
        fs::TryLockError::Error(error) => error.into(),
    })?;
    if storage.len()? == 0 {
        return Ok(Found::Damaged("it is empty".to_owned()));
    }
    match database::read(&storage) {
        Ok(rows) => Ok(Found::File(storage, rows)),
        Err(Failure::Damage(why)) => Ok(Found::Damaged(why)),
        Err(Failure::Environment(cause)) => Err(cause),
    }
}
