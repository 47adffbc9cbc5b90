//! Files in a folder that other users may have prepared: every name is resolved relative to the open folder, no link is
//! followed, and a file is complete when it gets its name.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How a folder is opened: only if it is a folder, and not through a link.
const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Mode of folders that are created here: everyone may read them, whatever the umask.
const FOLDER_MODE: Mode = Mode::from_bits_truncate(0o755);

/// How many bytes of a file are read; files of this kind are far shorter.
const READ_MAX: u64 = 64 * 1024;

/// An entry of a folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum There {
    Nothing,
    /// A regular file; its first bytes.
    File(Vec<u8>),
    /// A link, a pipe, a folder.
    Other,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// Opens the folder at a path, which may contain links.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(nix::fcntl::open(path, FOLDER.difference(OFlag::O_NOFOLLOW), Mode::empty())?))
    }

    /// Opens the subfolder with that name.
    pub(crate) fn sub(&self, name: &str) -> io::Result<Self> {
        Ok(Self(openat(&self.0, name, FOLDER, Mode::empty())?))
    }

    /// The same; creates it if necessary.
    pub(crate) fn sub_or_new(&self, name: &str) -> io::Result<Self> {
        match mkdirat(&self.0, name, FOLDER_MODE) {
            Ok(()) => {
                let made = self.sub(name)?;
                fchmod(&made.0, FOLDER_MODE)?;
                Ok(made)
            }
            Err(Errno::EEXIST) => self.sub(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the subfolder with that name if it is empty; a missing one is no error.
    pub(crate) fn remove_sub_if_empty(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the entry with that name another one, which must be unpredictable: it replaces what has it.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    /// Reads the entry with that name.
    pub(crate) fn read(&self, name: &str) -> io::Result<There> {
        // Otherwise opening a pipe without a writer would block.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(There::Nothing),
            // A link, a socket.
            Err(Errno::ELOOP | Errno::ENXIO) => return Ok(There::Other),
            Err(error) => return Err(error.into()),
        };
        if SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Ok(There::Other);
        }
        let mut bytes = Vec::new();
        File::from(file).take(READ_MAX).read_to_end(&mut bytes)?;
        Ok(There::File(bytes))
    }

    /// Writes a file with that content and mode, whatever the umask and whatever has the name: a reader sees the old or
    /// the new file, never a part. `draft`: its temporary name, which must be unpredictable.
    pub(crate) fn replace(&self, name: &str, content: &[u8], mode: Mode, draft: &str) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.0, draft, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let written = fchmod(&file, mode).map_err(io::Error::from).and_then(|()| File::from(file).write_all(content));
        let named = written.and_then(|()| Ok(renameat(&self.0, draft, &self.0, name)?));
        if named.is_err() {
            // The earlier failure is the one to report.
            let _ = unlinkat(&self.0, draft, UnlinkatFlags::NoRemoveDir);
        }
        named
    }

    /// Deletes a file or link; a missing one is no error.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the files and links whose names match.
    pub(crate) fn remove_all(&self, such: impl Fn(&str) -> bool) -> io::Result<()> {
        self.names()?.iter().filter(|name| such(name)).try_for_each(|name| self.remove(name))
    }

    /// Whether no other name is in the folder.
    pub(crate) fn has_only(&self, name: &str) -> io::Result<bool> {
        Ok(self.names()?.iter().all(|there| there == name))
    }

    /// What is in the folder; a name that is not UTF-8 with replacement characters.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut listed = Dir::openat(&self.0, ".", FOLDER, Mode::empty())?;
        let entries = listed.iter().filter_map(Result::ok);
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(names.filter(|name| name != "." && name != "..").collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn neither_links_nor_modes_of_others_matter() {
        let place = tempfile::tempdir().unwrap();
        let (folder, victim) = (place.path().join("folder"), place.path().join("victim"));
        fs::create_dir(&folder).unwrap();
        fs::write(&victim, "theirs").unwrap();
        let open = Folder::open(&folder).unwrap();
        for link in ["symbolic", "hard"] {
            match link {
                "hard" => fs::hard_link(&victim, folder.join(link)).unwrap(),
                _ => symlink(&victim, folder.join(link)).unwrap(),
            }
            // A predicted draft name is refused; the final name is replaced, not its link target.
            symlink(&victim, folder.join("foreseen")).unwrap();
            assert!(open.replace(link, b"ours", Mode::from_bits_truncate(0o644), "foreseen").is_err());
            open.remove("foreseen").unwrap();
            open.replace(link, b"ours", Mode::from_bits_truncate(0o644), "draft").unwrap();
            assert_eq!(fs::read_to_string(folder.join(link)).unwrap(), "ours");
            assert_eq!(fs::metadata(folder.join(link)).unwrap().permissions().mode() & 0o7777, 0o644);
            assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs", "{link}");
        }
        symlink(place.path(), folder.join("elsewhere")).unwrap();
        assert!(open.sub("elsewhere").is_err() && open.sub_or_new("elsewhere").is_err());
        symlink(&victim, folder.join("read")).unwrap();
        assert_eq!(open.read("read").unwrap(), There::Other);
        nix::unistd::mkfifo(&folder.join("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(open.read("pipe").unwrap(), There::Other, "and it does not wait");
        assert_eq!(open.read("hard").unwrap(), There::File(b"ours".into()));
        assert_eq!(open.read("none").unwrap(), There::Nothing);
    }
}
