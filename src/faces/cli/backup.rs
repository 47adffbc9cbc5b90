//! `netd backup` and `netd restore`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::Session;
use super::args::{BackupArgs, RestoreArgs};
use super::output::{Failure, json};
use crate::api::v1::{Backup, Restored};
use crate::model::backup;

/// The file that stands for standard input and output.
const STANDARD: &str = "-";

pub(super) fn back_up(session: &mut Session<'_>, args: &BackupArgs) -> Result<(), Failure> {
    let file = &args.file;
    let attempt = format!("back up the definitions to {}", file.display());
    let backup: Backup = session.client.get("/v1/backup").map_err(|error| Failure::of(&attempt, error))?;
    if file.as_os_str() == STANDARD {
        return json(session.out, &backup);
    }
    let mut text = Vec::new();
    json(&mut text, &backup)?;
    replace(file, &text).map_err(|error| Failure::of(&attempt, error))?;
    let counted = [(backup.services.len(), "services"), (backup.policies.len(), "policies")];
    let more = counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    let more: String = more.collect();
    Ok(writeln!(session.out, "{} networks{more} backed up to {}", backup.networks.len(), file.display())?)
}

/// Writes the file beside and renames it: whatever happens, the old backup is there, or the new one. Only its owner may
/// read it.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let draft = PathBuf::from(name);
    let write = || {
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        new.write_all(text)?;
        new.sync_all()?;
        fs::rename(&draft, file)
    };
    write().inspect_err(|error| {
        // One that was there before is not ours.
        if error.kind() != io::ErrorKind::AlreadyExists {
            let _ = fs::remove_file(&draft);
        }
    })
}

pub(super) fn restore(session: &mut Session<'_>, args: &RestoreArgs) -> Result<(), Failure> {
    let attempt = format!("restore the definitions from {}", args.file.display());
    let text = read(&args.file).map_err(|error| Failure::of(&attempt, error))?;
    let backup: Backup = serde_json::from_str(&text)
        .map_err(|error| Failure::of(&attempt, format!("it is no backup of netd, or not all of it: {error}")))?;
    backup::Backup::try_from(backup.clone()).map_err(|invalid| Failure::of(&attempt, invalid))?;
    let restored: Restored =
        session.client.post("/v1/restore", &backup).map_err(|error| Failure::of(&attempt, error))?;
    if args.format.json {
        return json(session.out, &restored);
    }
    let Restored { networks, unchanged, services, unchanged_services, policies } = restored;
    for (names, what) in [(networks, "created"), (unchanged, "unchanged")] {
        names.iter().try_for_each(|name| writeln!(session.out, "{name} {what}"))?;
    }
    for (names, what) in [(services, "created"), (unchanged_services, "unchanged")] {
        names.iter().try_for_each(|name| writeln!(session.out, "service {name} {what}"))?;
    }
    for policy in policies {
        let rule = policy.rule().map_err(|invalid| Failure::of(&attempt, invalid))?;
        writeln!(session.out, "policy added: {rule}")?;
    }
    Ok(())
}

fn read(file: &Path) -> io::Result<String> {
    if file.as_os_str() != STANDARD {
        return fs::read_to_string(file);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}
