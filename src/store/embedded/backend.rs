//! What is under redb: an open file, and a view of one that keeps its changes in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::gate::{Call, Gate};

/// An open file. Clones share it; the lock that it has ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct Storage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    gate: Gate,
    /// Whether a sync failed: the kernel then considers pages as written that are not on the disk.
    unsynced: AtomicBool,
}

impl Storage {
    pub(super) fn new(file: File, gate: Gate) -> Self {
        Self(Arc::new(Inner { file, gate, unsynced: AtomicBool::new(false) }))
    }

    pub(super) fn file(&self) -> &File {
        &self.0.file
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let done = self.0.gate.pass(Call::Sync).and_then(|()| self.0.file.sync_data());
        if done.is_err() {
            self.0.unsynced.store(true, Ordering::Release);
        }
        done
    }

    /// Whether a sync has failed since the file was opened.
    pub(super) fn is_unsynced(&self) -> bool {
        self.0.unsynced.load(Ordering::Acquire)
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.0.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.gate.pass(Call::Read)?;
        self.0.file.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let passed = self.0.gate.pass(Call::Write);
        let admitted = passed.as_ref().map_or_else(|error| self.0.gate.torn(error, data.len()), |()| data.len());
        self.0.file.write_all_at(&data[..admitted], offset)?;
        passed
    }
}

/// The file as redb writes it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) storage: Storage,
    /// Whether commits reach the disk. Otherwise they reach the page cache only.
    pub(super) sync: bool,
}

impl redb::StorageBackend for Written {
    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.storage.0.gate.pass(Call::SetLen)?;
        self.storage.file().set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.sync { self.storage.sync() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.storage.write(offset, data)
    }
}

/// Size of the parts that a view keeps, in bytes: redb's pages.
const BLOCK: usize = 4096;

/// A view of a file. Opening a file with redb repairs and changes it; here the file stays as it is.
#[derive(Debug)]
pub(super) struct View {
    storage: Storage,
    changed: Mutex<Changed>,
}

#[derive(Debug)]
struct Changed {
    len: u64,
    /// How many bytes of the file count: what is cut off is zero if the view grows again.
    original: u64,
    /// What was changed, by the number of the block.
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl View {
    pub(super) fn of(storage: &Storage) -> io::Result<Self> {
        let len = storage.len()?;
        let changed = Changed { len, original: len, blocks: BTreeMap::new() };
        Ok(Self { storage: storage.clone(), changed: Mutex::new(changed) })
    }

    fn changed(&self) -> std::sync::MutexGuard<'_, Changed> {
        // Blocks are replaced as whole values only.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block as it is in the view; zeros behind the end of the file.
    fn block(&self, changed: &Changed, number: u64) -> io::Result<Box<[u8; BLOCK]>> {
        if let Some(block) = changed.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = Box::new([0; BLOCK]);
        let start = number * BLOCK as u64;
        let there = usize::try_from(changed.original.saturating_sub(start)).unwrap_or(BLOCK).min(BLOCK);
        self.storage.read(start, &mut block[..there])?;
        Ok(block)
    }

    /// Changes the bytes of a range, part by part.
    fn change(
        &self,
        offset: u64,
        len: usize,
        mut change: impl FnMut(&mut [u8], std::ops::Range<usize>),
    ) -> io::Result<()> {
        let mut changed = self.changed();
        for (number, within, range) in parts(offset, len) {
            let mut block = self.block(&changed, number)?;
            change(&mut block[within..within + range.len()], range);
            changed.blocks.insert(number, block);
        }
        Ok(())
    }
}

/// The parts of blocks that a range of bytes covers: number of the block, offset in it, range of the bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        #[expect(clippy::cast_possible_truncation, reason = "less than BLOCK")]
        let within = (at % BLOCK as u64) as usize;
        let size = (BLOCK - within).min(len - done);
        let range = done..done + size;
        done += size;
        (size > 0).then_some((at / BLOCK as u64, within, range))
    })
}

impl redb::StorageBackend for View {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changed().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changed = self.changed();
        if offset.saturating_add(out.len() as u64) > changed.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, range) in parts(offset, out.len()) {
            let end = within + range.len();
            out[range].copy_from_slice(&self.block(&changed, number)?[within..end]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let last = len / BLOCK as u64;
        let mut changed = self.changed();
        changed.blocks.retain(|number, _| *number <= last);
        changed.original = changed.original.min(len);
        changed.len = len;
        drop(changed);
        let end = usize::try_from(len % BLOCK as u64).unwrap_or(0);
        self.change(len, BLOCK - end, |bytes, _| bytes.fill(0))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(offset, data.len(), |bytes, range| bytes.copy_from_slice(&data[range]))
    }
}
