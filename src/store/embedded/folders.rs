//! The directories of the two files: each belongs to one daemon, which has locked it. The lock leaves no file and ends
//! with the process.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::Duration;

use super::{Cause, StoreError, failed};
use crate::base::private;

/// How often a lock is tried again, and when: a daemon that has ended still seems to hold it as long as a process that it
/// was just starting has all of its descriptors.
const LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(10);

/// Both directories. Those that exist are locked.
#[derive(Debug)]
pub struct Folders {
    pub(super) state: PathBuf,
    pub(super) runtime: PathBuf,
    locks: Vec<Lock>,
}

#[derive(Debug)]
struct Lock {
    /// Device and inode.
    id: (u64, u64),
    _open: File,
}

impl Folders {
    /// Locks the directories that exist, and creates none. Fails if another daemon has locked one.
    pub fn claim(state_dir: &Path, runtime_dir: &Path) -> Result<Self, StoreError> {
        let mut folders = Self { state: state_dir.to_owned(), runtime: runtime_dir.to_owned(), locks: Vec::new() };
        folders.lock_all(false)?;
        Ok(folders)
    }

    /// Creates and locks those that did not exist. Returns whether there were any.
    pub(super) fn make(&mut self) -> Result<bool, StoreError> {
        let locks = self.locks.len();
        let look = "missing permissions? a full or read-only file system?";
        for path in [&self.state, &self.runtime] {
            private::folder(path).map_err(|error| failed("create", path, look)(error.into()))?;
        }
        self.lock_all(true)?;
        Ok(self.locks.len() > locks)
    }

    /// `exist`: whether both are there.
    fn lock_all(&mut self, exist: bool) -> Result<(), StoreError> {
        let look = "give each daemon directories of its own: --state-dir, --runtime-dir";
        for path in [self.state.clone(), self.runtime.clone()] {
            match self.lock(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !exist => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(failed("lock", &path, look)("another netd uses this directory".into()));
                }
                Err(error) => return Err(failed("lock", &path, "is it a directory?")(Cause::from(error))),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn lock(&mut self, path: &Path) -> io::Result<()> {
        let folder = File::open(path)?;
        let found = folder.metadata()?;
        let id = (found.dev(), found.ino());
        // Both can be the same directory.
        if self.locks.iter().any(|lock| lock.id == id) {
            return Ok(());
        }
        let mut locked = folder.try_lock();
        for _ in 0..LOOKS {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            // Nothing tells of the end of a lock.
            park_timeout(LOOK);
            locked = folder.try_lock();
        }
        match locked {
            Ok(()) => self.locks.push(Lock { id, _open: folder }),
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            // NFS does not lock directories: there, the locks of the files keep a second daemon away.
            Err(TryLockError::Error(_)) => {}
        }
        Ok(())
    }
}
