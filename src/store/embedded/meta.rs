//! What a file says about itself: table `meta`.

use serde::de::DeserializeOwned;

use super::rows::{Change, META, Rows, SCHEMA, decode};

/// Random, drawn when the file is created: a copy of a file has its id, another file has another.
const ID: &str = "id";
/// Counts the transactions of the file.
const REVISION: &str = "revision";
/// In the runtime file: id and revision of the durable file that it has a copy of.
const SOURCE: &str = "source";
/// In the runtime file: whether endpoints of this boot may be missing in it.
const INCOMPLETE: &str = "incomplete";
/// The version of the netd that wrote it last.
const VERSION: &str = "version";

/// This netd.
pub(super) const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

fn get<T: DeserializeOwned>(rows: &Rows, key: &str) -> Option<T> {
    decode(rows.get(META)?.get(key)?).ok()
}

fn put(key: &str, value: &impl serde::Serialize) -> Change {
    // Writing JSON to memory cannot fail for these types; a value that is missing is written again.
    Change::put(META, key, value).unwrap_or_else(|_| Change::delete(META, key))
}

/// 0 for a file of the first release, which did not count.
pub(super) fn revision(rows: &Rows) -> u64 {
    get(rows, REVISION).unwrap_or(0)
}

pub(super) fn put_revision(revision: u64) -> Change {
    put(REVISION, &revision)
}

/// `None` for a file of the first release.
pub(super) fn id(rows: &Rows) -> Option<String> {
    get(rows, ID)
}

/// Id and revision.
pub(super) fn state(rows: &Rows) -> Option<(String, u64)> {
    Some((id(rows)?, revision(rows)))
}

/// Id and revision of the file that the copy was made from; `None` if there is no copy.
pub(super) fn source(rows: &Rows) -> Option<(String, u64)> {
    get(rows, SOURCE)
}

/// Notes in the runtime file that its copy is that of these rows.
pub(super) fn source_of(durable: &Rows) -> Change {
    put(SOURCE, &state(durable))
}

/// Notes in the runtime file that its copy may lack rows.
pub(super) fn forget_source() -> Change {
    Change::delete(META, SOURCE)
}

/// Whether endpoints of this boot may be missing.
pub(super) fn is_incomplete(rows: &Rows) -> bool {
    get(rows, INCOMPLETE).unwrap_or(false)
}

pub(super) fn put_incomplete(incomplete: bool) -> Change {
    put(INCOMPLETE, &incomplete)
}

/// The version of the netd that wrote the file last, whatever its schema; `None` for the first release.
pub(super) fn version(rows: &Rows) -> Option<String> {
    let (_, json) = rows.get(META)?.get(VERSION)?.split_first()?;
    serde_json::from_slice(json).ok()
}

/// Whether a later netd than this wrote the file last.
pub(super) fn is_of_later_version(rows: &Rows) -> bool {
    let parts = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u64>>();
    version(rows).is_some_and(|version| parts(&version) > parts(OWN_VERSION))
}

/// Whether a row has a schema that only a later netd writes.
pub(super) fn is_of_later_schema(value: &[u8]) -> bool {
    value.first().is_some_and(|schema| *schema > SCHEMA)
}

/// What a file of this netd says that does not say it yet.
pub(super) fn missing(rows: &Rows) -> Vec<Change> {
    let id = id(rows).is_none().then(|| put(ID, &format!("{:032x}", rand::random::<u128>())));
    let version = (version(rows).as_deref() != Some(OWN_VERSION)).then(|| put(VERSION, &OWN_VERSION));
    id.into_iter().chain(version).collect()
}
