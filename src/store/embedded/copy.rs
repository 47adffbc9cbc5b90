//! The copy of the durable file that the runtime file keeps: a durable file that was lost in this boot is made again from
//! it.

use std::collections::BTreeMap;

use super::meta;
use super::rows::{Change, META, Rows, difference};

/// The beginning of the names of the tables of the copy.
pub(super) const PREFIX: &str = "copy/";

/// Whether the copy is that of the durable rows as they are.
pub(super) fn is_current(durable: &Rows, runtime: &Rows) -> bool {
    meta::state(durable).is_some() && meta::source(runtime) == meta::state(durable)
}

/// The changes that make a copy of the durable rows one of those rows after these changes.
pub(super) fn follow(changes: &[Change]) -> Vec<Change> {
    let own = changes.iter().filter(|change| change.table != META);
    own.map(|change| Change { table: format!("{PREFIX}{}", change.table), ..change.clone() }).collect()
}

/// The changes of the runtime file's rows that make its copy the durable rows. None if it was copied since they changed.
pub(super) fn changes(durable: &Rows, runtime: &Rows) -> Vec<Change> {
    if is_current(durable, runtime) {
        return Vec::new();
    }
    let empty = BTreeMap::new();
    let copied = runtime.keys().filter_map(|name| name.strip_prefix(PREFIX));
    let names = durable.keys().map(String::as_str).filter(|name| *name != META);
    let mut names: Vec<&str> = names.chain(copied).collect();
    names.sort_unstable();
    names.dedup();
    let tables = names.into_iter().flat_map(|name| {
        let of = format!("{PREFIX}{name}");
        difference(&of, runtime.get(&of), durable.get(name).unwrap_or(&empty))
    });
    tables.chain([meta::source_of(durable)]).collect()
}

/// The durable rows as the runtime file has them; `None` if it has no copy.
pub(super) fn of(runtime: &Rows) -> Option<Rows> {
    meta::source(runtime)?;
    let tables = runtime.iter().filter_map(|(name, rows)| Some((name.strip_prefix(PREFIX)?.to_owned(), rows.clone())));
    Some(tables.collect())
}

/// Whether the durable rows are those that were copied, or later ones of the same file.
pub(super) fn is_of(durable: &Rows, runtime: &Rows) -> bool {
    let (Some((id, revision)), Some((copied, of))) = (meta::state(durable), meta::source(runtime)) else {
        return false;
    };
    id == copied && revision >= of
}

#[cfg(test)]
mod tests {
    use super::super::rows::{NETWORKS, SETTINGS, apply};
    use super::*;

    fn rows(of: &[(&str, &str, &str)]) -> Rows {
        let mut rows = Rows::new();
        let changes = of.iter().map(|(table, key, value)| Change::put(table, key, value).unwrap());
        apply(&mut rows, changes.collect());
        let missing = meta::missing(&rows);
        apply(&mut rows, missing);
        rows
    }

    #[test]
    fn a_copy_follows_every_change() {
        let mut durable = rows(&[(NETWORKS, "net1", "one"), (SETTINGS, "a", "b")]);
        let mut runtime = rows(&[("endpoints", "x", "y")]);
        assert_eq!(of(&runtime), None);
        let mut steps: Vec<Vec<Change>> = vec![Vec::new()];
        steps.push(vec![Change::put(NETWORKS, "net2", &"two").unwrap(), meta::put_revision(1)]);
        steps.push(vec![Change::delete(NETWORKS, "net1"), Change::delete(SETTINGS, "a"), meta::put_revision(2)]);
        for step in steps {
            let followed = follow(&step);
            let mut by_changes = runtime.clone();
            apply(&mut durable, step);
            let changes = changes(&durable, &runtime);
            apply(&mut runtime, changes);
            if meta::source(&by_changes).is_some() {
                apply(&mut by_changes, followed);
                apply(&mut by_changes, vec![meta::source_of(&durable)]);
                assert_eq!(by_changes, runtime, "the short way");
            }
            let mut copied = of(&runtime).unwrap();
            copied.retain(|_, rows| !rows.is_empty());
            let mut expected = durable.clone();
            expected.retain(|name, rows| name != META && !rows.is_empty());
            assert_eq!(copied, expected);
            assert!(is_of(&durable, &runtime));
            assert_eq!(super::changes(&durable, &runtime), []);
        }
        assert_eq!(runtime["endpoints"].len(), 1);
        let mut older = durable.clone();
        apply(&mut older, vec![meta::put_revision(1)]);
        assert!(!is_of(&older, &runtime), "an older state of the file");
        assert!(!is_of(&rows(&[]), &runtime), "another file");
    }
}
