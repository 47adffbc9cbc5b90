//! `/etc/netns/NAME/resolv.conf`: what `ip netns exec NAME` shows as `/etc/resolv.conf` (ip-netns(8)).
//!
//! Several daemons may serve one namespace, each on networks of its own host namespace, but there is only one file. A
//! file names the daemon that wrote it and the namespace that it was written for. That daemon replaces and removes it;
//! another one leaves it alone as long as that very namespace exists. A file that no netd wrote is never changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use nix::sys::stat::Mode;

use crate::kernel::KernelError;
use crate::kernel::netlink::socket::failed;
use crate::os::folder::{Folder, There};

/// First line of every file that netd wrote; a file without it belongs to someone else and stays as it is.
const MARKER: &str = "# Written by netd: it replaces and removes this file. Delete this line to keep the file.\n";
/// Prefix of the second line, which names the daemon and the namespace. Files of earlier releases have none.
const SIGNATURE: &str = "# By netd ";
const NAME: &str = "resolv.conf";
/// The temporary name that earlier releases gave to an incomplete file.
const EARLIER_DRAFT: &str = ".resolv.conf.netd";
/// Prefix of the name that a folder has while it is deleted.
const LEAVING: &str = ".netd-leaving-";
const LOOK: &str = "is /etc writable, and is there space left?";
/// Every process in the namespace must be able to read it, whatever the umask of the daemon.
const MODE: Mode = Mode::from_bits_truncate(0o644);

/// The files of all namespaces.
#[derive(Debug)]
pub struct Files {
    /// `/etc/netns`.
    root: PathBuf,
    /// `/run/netns`.
    namespaces: PathBuf,
    /// Identifies this boot: inode numbers of namespaces are reused after a reboot.
    boot: String,
    /// Identifies this daemon; empty if it signs no files.
    instance: String,
    /// Namespaces whose file another daemon wrote, as reported in the log.
    warned: BTreeSet<String>,
}

/// The owner of a file.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    /// There is no file.
    Nobody,
    /// Not netd's. A link is never netd's, wherever it leads.
    Stranger,
    /// This daemon's.
    Own,
    /// An unsigned file of a netd; the content below the marker.
    Unsigned(String),
    /// A file of another netd, for the namespace that exists now.
    Other(String),
    /// A file of another netd, for a namespace that no longer exists.
    Void,
}

impl Files {
    /// The files below `root` (`/etc/netns`) for the namespaces in `namespaces` (`/run/netns`). `boot`: the id of this
    /// boot.
    pub fn new(root: impl Into<PathBuf>, namespaces: impl Into<PathBuf>, boot: &str) -> Self {
        let (root, namespaces) = (root.into(), namespaces.into());
        Self { root, namespaces, boot: boot.to_owned(), instance: String::new(), warned: BTreeSet::new() }
    }

    /// Sets the signature of this daemon's files.
    pub fn sign(&mut self, instance: &str) {
        instance.clone_into(&mut self.instance);
    }

    /// Writes the file with this content below the marker, or removes it (`None`), for the namespace with this name.
    /// `before` is the content that the file has if it is this daemon's. Files that are not this daemon's stay
    /// unchanged.
    pub fn apply(&mut self, netns: &str, before: Option<&str>, content: Option<&str>) -> Result<(), KernelError> {
        let file = self.root.join(netns).join(NAME);
        let root = match Folder::open(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && content.is_none() => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_root(),
            opened => opened,
        };
        let root = root.map_err(failed("open", self.root.display(), LOOK))?;
        let folder = match if content.is_some() { root.sub_or_new(netns) } else { root.sub(netns) } {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if is_no_folder(&error) => {
                self.tell(netns, &format!("{} is a link or not a directory", self.root.join(netns).display()));
                return Ok(());
            }
            Err(error) => return Err(failed("open", self.root.join(netns).display(), LOOK)(error)),
        };
        let whose = self.whose(&folder, netns).map_err(failed("read", file.display(), LOOK))?;
        match (&whose, content) {
            (Whose::Stranger, _) => return Ok(()),
            (Whose::Other(instance), _) => {
                self.tell(netns, &format!("another netd ({instance}) wrote {}", file.display()));
                return Ok(());
            }
            (Whose::Unsigned(there), None) if before != Some(there.as_str()) && self.is_there(netns) => return Ok(()),
            (Whose::Void, None) if self.is_there(netns) => return Ok(()),
            _ => {}
        }
        self.warned.remove(netns);
        match content {
            Some(content) => self.write(&folder, netns, content).map_err(failed("write", file.display(), LOOK)),
            None => self.remove(&root, &folder, netns).map_err(failed("remove", file.display(), LOOK)),
        }
    }

    /// The names whose file this daemon wrote, and those whose file any netd wrote but whose namespace no longer exists:
    /// a daemon that is killed while disconnecting leaves both. Unsigned files for existing namespaces may be another
    /// daemon's.
    pub fn written(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().filter_map(Result::ok);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let Ok(root) = Folder::open(&self.root) else { return Vec::new() };
        let is_ours = |name: &String| {
            let whose = root.sub(name).and_then(|folder| self.whose(&folder, name));
            whose.is_ok_and(|whose| match whose {
                Whose::Nobody => name.starts_with(LEAVING),
                Whose::Stranger => false,
                Whose::Own => true,
                Whose::Unsigned(_) | Whose::Other(_) | Whose::Void => !self.is_there(name),
            })
        };
        names.filter(is_ours).collect()
    }

    /// Whether the file is not as this daemon writes it with that content (`None`: no file), and may be changed.
    pub fn differs(&self, netns: &str, content: Option<&str>) -> Result<bool, KernelError> {
        let file = self.root.join(netns).join(NAME);
        let folder = match Folder::open(&self.root).and_then(|root| root.sub(netns)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(content.is_some()),
            // A link or a file in its place is not netd's.
            Err(error) if is_no_folder(&error) => return Ok(false),
            folder => folder.map_err(failed("open", file.display(), LOOK))?,
        };
        match self.whose(&folder, netns).map_err(failed("read", file.display(), LOOK))? {
            Whose::Nobody | Whose::Unsigned(_) | Whose::Void => Ok(content.is_some()),
            Whose::Stranger | Whose::Other(_) => Ok(false),
            Whose::Own => match (folder.read(NAME).map_err(failed("read", file.display(), LOOK))?, content) {
                (There::File(bytes), Some(content)) => Ok(bytes != self.text(netns, content).as_bytes()),
                _ => Ok(true),
            },
        }
    }

    fn make_root(&self) -> io::Result<Folder> {
        let (Some(parent), Some(name)) = (self.root.parent(), self.root.file_name().and_then(|name| name.to_str()))
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        Folder::open(parent)?.sub_or_new(name)
    }

    fn whose(&self, folder: &Folder, netns: &str) -> io::Result<Whose> {
        let bytes = match folder.read(NAME)? {
            There::Nothing => return Ok(Whose::Nobody),
            There::Other => return Ok(Whose::Stranger),
            There::File(bytes) => bytes,
        };
        let text = String::from_utf8_lossy(&bytes);
        let Some(rest) = text.strip_prefix(MARKER) else { return Ok(Whose::Stranger) };
        let Some(signature) = rest.strip_prefix(SIGNATURE) else { return Ok(Whose::Unsigned(rest.to_owned())) };
        let signature = signature.lines().next().unwrap_or_default();
        let (instance, place) = signature.split_once(" for ").unwrap_or((signature, ""));
        Ok(match place {
            _ if instance == self.instance => Whose::Own,
            place if Some(place) == self.place(netns).as_deref() => Whose::Other(instance.to_owned()),
            _ => Whose::Void,
        })
    }

    /// Identifies the namespace among all namespaces that have had or will have that name.
    fn place(&self, netns: &str) -> Option<String> {
        let found = fs::metadata(self.namespaces.join(netns)).ok()?;
        Some(format!("{}:{}:{}", self.boot, found.dev(), found.ino()))
    }

    fn is_there(&self, netns: &str) -> bool {
        self.namespaces.join(netns).exists()
    }

    fn write(&self, folder: &Folder, netns: &str, content: &str) -> io::Result<()> {
        self.remove_drafts(folder)?;
        let text = self.text(netns, content);
        let draft = format!("{}{:016x}", self.draft(), rand::random::<u64>());
        folder.replace(NAME, text.as_bytes(), MODE, &draft)
    }

    /// The whole file.
    fn text(&self, netns: &str, content: &str) -> String {
        let mut text = MARKER.to_owned();
        if !self.instance.is_empty() {
            let place = self.place(netns).unwrap_or_else(|| "none".to_owned());
            text.push_str(&format!("{SIGNATURE}{} for {place}\n", self.instance));
        }
        text.push_str(content);
        text
    }

    /// Removes the file, and the folder too if it has nothing else. The folder gets another name before, so that what a
    /// killed daemon leaves is known as netd's.
    fn remove(&self, root: &Folder, folder: &Folder, netns: &str) -> io::Result<()> {
        self.remove_drafts(folder)?;
        let leaving = format!("{LEAVING}{:016x}", rand::random::<u64>());
        // An overlay file system may refuse to rename a folder of its lower layer.
        let is_renamed = !netns.starts_with(LEAVING) && folder.has_only(NAME)? && root.rename(netns, &leaving).is_ok();
        if is_renamed && !folder.has_only(NAME)? {
            // Another program wrote a file at that moment.
            root.rename(&leaving, netns)?;
            return folder.remove(NAME);
        }
        folder.remove(NAME)?;
        root.remove_sub_if_empty(if is_renamed { &leaving } else { netns })
    }

    /// The prefix of the names of this daemon's incomplete files.
    fn draft(&self) -> String {
        format!("{EARLIER_DRAFT}-{}-", self.instance)
    }

    /// Removes the incomplete files of a killed daemon.
    fn remove_drafts(&self, folder: &Folder) -> io::Result<()> {
        let own = self.draft();
        folder.remove_all(|name| name == EARLIER_DRAFT || name.starts_with(&own))
    }

    /// Logs once why the file of a namespace is not written.
    fn tell(&mut self, netns: &str, why: &str) {
        if self.warned.insert(netns.to_owned()) {
            tracing::warn!(%netns, "netd does not change the namespace's resolv.conf: {why}");
        }
    }
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR))
}

#[cfg(test)]
mod tests;
