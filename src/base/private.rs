//! Files and folders that only the daemon's user may read, whatever the umask.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Mode of files.
pub(crate) const FILE: u32 = 0o600;
/// Mode of folders.
const FOLDER: u32 = 0o700;
/// Mode of a folder that contains a socket: other users may reach the socket, whose own mode decides, but cannot list
/// the folder.
const FOLDER_OF_SOCKET: u32 = 0o711;
/// Mode of the parent folders: that of the system's folders.
const ABOVE: u32 = 0o755;
/// What the names of the files end in that netd keeps in its folders. A folder with any other file is not netd's alone.
const OWN: [&str; 2] = [".redb", ".sock"];
/// What the names of files contain that netd makes or has set aside.
const OWN_BESIDE: [&str; 2] = [".redb.new", ".redb.damaged-"];

/// Creates the folder and its parents. An existing folder with no files of other programs loses access for other users.
pub fn folder(path: &Path) -> io::Result<()> {
    make(path, FOLDER)?;
    let mut mode = FOLDER;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !OWN.iter().any(|end| name.ends_with(end)) && !OWN_BESIDE.iter().any(|part| name.contains(part)) {
            return Ok(());
        }
        if entry.file_type()?.is_socket() {
            mode = FOLDER_OF_SOCKET;
        }
    }
    narrow(path, mode)
}

/// Creates a folder for a socket, and its parents, if it does not exist.
pub fn folder_of_socket(path: &Path) -> io::Result<()> {
    make(path, FOLDER_OF_SOCKET)
}

/// Removes access for other users from a file.
pub fn file(file: &File) -> io::Result<()> {
    if file.metadata()?.mode() & 0o7777 != FILE {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(())
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().ok_or(error)?;
            make(parent, ABOVE)?;
            make(path, mode)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes the permissions that are not in `mode`; another user's folder stays as it is.
fn narrow(path: &Path, mode: u32) -> io::Result<()> {
    let found = fs::metadata(path)?;
    let own = found.uid() == nix::unistd::geteuid().as_raw();
    if own && found.mode() & 0o7777 & !mode != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_netds_alone_is_closed_to_others() {
        let place = tempfile::tempdir().unwrap();
        let (above, state) = (place.path().join("lib"), place.path().join("lib/netd"));
        folder(&state).unwrap();
        assert_eq!((mode(&above), mode(&state)), (0o755, 0o700));
        let path = state.join("netd.redb");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
        file(&File::open(&path).unwrap()).unwrap();
        folder(&state).unwrap();
        assert_eq!((mode(&path), mode(&state)), (0o600, 0o700));
        let _socket = UnixListener::bind(state.join("netd.sock")).unwrap();
        fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
        folder(&state).unwrap();
        assert_eq!(mode(&state), 0o711);
        fs::write(state.join("notes"), "").unwrap();
        fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
        folder(&state).unwrap();
        assert_eq!(mode(&state), 0o755, "it holds what is not netd's");
    }
}
