//! Opens both files at a start: makes those that are missing, sets aside those that cannot be used and makes them again,
//! and refuses what would lose something.

use std::path::Path;

use super::backend::Storage;
use super::check::{Verdict, check};
use super::decide::{Decision, Known, decide};
use super::file::{self, Found, StoreFile};
use super::gate::Gate;
use super::rows::{self, BOOT, Change, Rows};
use super::{Cause, DURABLE, Embedded, Folders, StoreError, UNTIL_BOOT, aside, create, failed, look_for, meta};

/// What a start goes by.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// The id of this boot.
    pub boot_id: &'a str,
    /// Whether to make the durable file from the copy in the runtime file if it is missing, or is not the one that the
    /// containers of this boot were connected with; otherwise that is refused.
    pub rebuild: bool,
}

/// A file that was looked at.
#[derive(Debug)]
struct Looked {
    /// `None`: nothing that can be used is there.
    storage: Option<Storage>,
    rows: Rows,
    /// Why it cannot be used.
    damage: Option<String>,
}

impl Looked {
    fn known(&self) -> Known<'_> {
        match (&self.storage, &self.damage) {
            (_, Some(_)) => Known::Damaged(&self.rows),
            (Some(_), None) => Known::Good(&self.rows),
            (None, None) => Known::Nothing,
        }
    }
}

/// What was found, and what becomes of it.
struct Start {
    durable: Looked,
    runtime: Looked,
    decision: Decision,
}

/// Looks at both files, decides, and then changes them.
pub(super) fn open(mut folders: Folders, opening: Opening<'_>, gate: &Gate) -> Result<Embedded, StoreError> {
    let (durable, runtime) = (folders.state.join(DURABLE), folders.runtime.join(UNTIL_BOOT));
    let mut start = look(&durable, &runtime, opening, gate)?;
    if folders.make()? {
        // Until now, another daemon could have made files there.
        drop(start);
        start = look(&durable, &runtime, opening, gate)?;
    }
    for path in [&durable, &runtime] {
        if let Err(error) = create::remove_draft(path, gate) {
            tracing::warn!("cannot remove what an earlier start left beside {}: {error}", path.display());
        }
    }
    let until_boot = runtime_changes(&start.decision, &start.runtime, opening.boot_id).map_err(failed(
        "write",
        &runtime,
        "a bug of netd",
    ))?;
    let Decision { durable: rows, made, .. } = start.decision;
    let durable = put_durable(&durable, gate, start.durable, rows, made)
        .map_err(|error| failed("write", &durable, look_for(&error))(error))?;
    let until_boot = put_runtime(&runtime, gate, start.runtime, until_boot)
        .map_err(|error| failed("write", &runtime, look_for(&error))(error))?;
    let mut embedded = Embedded { durable, until_boot, _folders: folders };
    if let Err(error) = embedded.settle() {
        tracing::warn!("{error}");
    }
    Ok(embedded)
}

fn look(durable: &Path, runtime: &Path, opening: Opening<'_>, gate: &Gate) -> Result<Start, StoreError> {
    let found = look_at(durable, gate)?;
    let of_boot = of_this_boot(look_at(runtime, gate)?, opening.boot_id);
    let decision = decide(found.known(), of_boot.known(), runtime, opening.rebuild)
        .map_err(|why| failed("open", durable, "nothing was changed")(why.into()))?;
    Ok(Start { durable: found, runtime: of_boot, decision })
}

fn look_at(path: &Path, gate: &Gate) -> Result<Looked, StoreError> {
    let found = file::find(path, gate).map_err(|error| failed("open", path, look_for(&error))(error))?;
    let (storage, mut rows) = match found {
        Found::Nothing => return Ok(Looked { storage: None, rows: Rows::new(), damage: None }),
        Found::Damaged(why) => return Ok(Looked { storage: None, rows: Rows::new(), damage: Some(why) }),
        Found::File(storage, rows) => (storage, rows),
    };
    match check(&mut rows) {
        Verdict::Readable => Ok(Looked { storage: Some(storage), rows, damage: None }),
        Verdict::Damaged(why) => Ok(Looked { storage: Some(storage), rows, damage: Some(why) }),
        Verdict::Later(wrote) => {
            let look = "it was not changed: start that netd or a later one; to go back, make a backup with it (`netd \
                        backup`), move the file away and restore the backup";
            Err(failed("read", path, look)(
                format!("it was written by netd {wrote}; this is netd {}", meta::OWN_VERSION).into(),
            ))
        }
    }
}

/// What a file of another boot describes has ended.
fn of_this_boot(mut looked: Looked, boot_id: &str) -> Looked {
    let stamps = rows::values::<String>(&looked.rows, BOOT).unwrap_or_default();
    if stamps.first().map(String::as_str) != Some(boot_id) {
        looked.storage = None;
        looked.rows.clear();
    }
    looked
}

/// What the runtime file must change to hold what was decided.
fn runtime_changes(decision: &Decision, found: &Looked, boot_id: &str) -> Result<Vec<Change>, Cause> {
    let mut changes = decision.runtime.clone();
    changes.push(Change::put(BOOT, "id", &boot_id)?);
    if decision.incomplete {
        changes.push(meta::put_incomplete(true));
    }
    let stays = |change: &Change| match found.rows.get(&change.table).and_then(|rows| rows.get(&change.key)) {
        Some(there) => change.value.as_ref() == Some(there),
        None => change.value.is_none(),
    };
    changes.retain(|change| !stays(change));
    Ok(changes)
}

fn put_durable(path: &Path, gate: &Gate, found: Looked, rows: Rows, made: Option<String>) -> Result<StoreFile, Cause> {
    match (made, found) {
        (None, Looked { storage: Some(storage), rows: before, .. }) => {
            let changes: Vec<Change> =
                rows.iter().flat_map(|(table, then)| rows::difference(table, before.get(table), then)).collect();
            let mut file = StoreFile::of(path, true, gate, storage, before);
            if !changes.is_empty() {
                tracing::warn!(
                    "{} lacked networks that this boot uses: they were taken from their copy",
                    path.display()
                );
                file.commit(changes)?;
            }
            Ok(file)
        }
        (made, Looked { storage, damage, .. }) => {
            let says = made.unwrap_or_default();
            let there = storage.is_some().then(|| "it is another file".to_owned());
            make(path, true, gate, rows, damage.or(there), &says)
        }
    }
}

fn put_runtime(path: &Path, gate: &Gate, found: Looked, changes: Vec<Change>) -> Result<StoreFile, Cause> {
    if let Looked { storage: Some(storage), rows, damage: None } = found {
        let mut file = StoreFile::of(path, false, gate, storage, rows);
        if !changes.is_empty() {
            file.commit(changes)?;
        }
        return Ok(file);
    }
    let mut rows = found.rows;
    rows::apply(&mut rows, changes);
    rows::apply(&mut rows, vec![meta::forget_source()]);
    make(path, false, gate, rows, found.damage, "its endpoints are looked for in the kernel, its reservations are lost")
}

/// Makes a file. `damage`: why the one that is there is set aside.
fn make(
    path: &Path,
    sync: bool,
    gate: &Gate,
    mut rows: Rows,
    damage: Option<String>,
    says: &str,
) -> Result<StoreFile, Cause> {
    if let Some(why) = damage {
        let name = aside::set_aside(path, gate)?;
        rows::apply(&mut rows, vec![aside::note(&name, &why, says)]);
    }
    StoreFile::create(path, sync, gate, rows)
}
