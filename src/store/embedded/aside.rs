//! Files that cannot be used are set aside: they keep their content under a new name, and `netd status` names them until
//! they are gone.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Cause;
use super::gate::{Call, Gate};
use super::rows::{Change, META, Rows, decode};

/// How many files are set aside. More would not tell more.
const MOST: u32 = 20;
/// The beginning of the keys of the notes; the name of the file follows.
const KEY: &str = "aside/";

/// Gives what has the path a second name, which nothing uses, and returns it. A file keeps the first one until another
/// file takes it: whatever ends the process, there is one.
pub(super) fn set_aside(path: &Path, gate: &Gate) -> Result<String, Cause> {
    let name = path.file_name().ok_or("it has no name")?.to_string_lossy().into_owned();
    let found = fs::metadata(path)?;
    for number in 1..=MOST {
        let aside = format!("{name}.damaged-{number}");
        let to = path.with_file_name(&aside);
        match fs::symlink_metadata(&to) {
            // An earlier attempt went no further.
            Ok(there) if (there.dev(), there.ino()) == (found.dev(), found.ino()) => return Ok(aside),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                gate.pass(Call::Rename)?;
                let linked = found.is_file() && fs::hard_link(path, &to).is_ok();
                // Directories, and file systems without links.
                if !linked {
                    fs::rename(path, &to)?;
                }
                return Ok(aside);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(format!("{name}.damaged-1 to {name}.damaged-{MOST} exist already: inspect and remove them").into())
}

/// The note about a file that was set aside; `rebuilt` says what was made of it.
pub(super) fn note(name: &str, why: &str, rebuilt: &str) -> Change {
    let key = format!("{KEY}{name}");
    Change::put(META, &key, &(why, rebuilt)).unwrap_or_else(|_| Change::delete(META, &key))
}

/// A sentence for each file that was set aside and is still there.
pub(super) fn complaints(path: &Path, rows: &Rows) -> Vec<String> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let start = format!("{}.damaged-", name.to_string_lossy());
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(&start)).collect();
    names.sort();
    let complaint = |name: &String| {
        let value = rows.get(META).and_then(|rows| rows.get(&format!("{KEY}{name}")));
        let note: Option<(String, String)> = value.and_then(|value| decode(value).ok());
        let note = note.map(|(why, rebuilt)| format!(" ({why}); {rebuilt}")).unwrap_or_default();
        format!(
            "{} could not be used and was set aside as {}{note}: inspect and then remove that file",
            path.display(),
            folder.join(name).display()
        )
    };
    names.iter().map(complaint).collect()
}
