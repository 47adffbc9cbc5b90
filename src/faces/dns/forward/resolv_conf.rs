//! Follows changes of the host's resolv.conf (resolv.conf(5)), and of the symbolic links to it.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hickory_resolver::system_conf::parse_resolv_conf;
use tracing::{debug, warn};

use crate::model::upstream::Upstream;

/// resolv.conf(5), `MAXNS`: further `nameserver` lines are ignored.
const MAX_SERVERS: usize = 3;
const PORT: u16 = 53;

/// Identifies a version of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The path of the file.
#[derive(Debug)]
pub(crate) struct ResolvConf(pub(crate) PathBuf);

impl ResolvConf {
    /// The current version. `None` if there is no file. It costs one stat(2), about a microsecond.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let file = std::fs::metadata(&self.0).ok()?;
        Some(Stamp {
            inode: (file.dev(), file.ino()),
            length: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }

    /// Reads its name servers. Take a stamp before: the next check then notices a change in between.
    pub(crate) fn read(&self) -> Vec<Upstream> {
        let content = match std::fs::read(&self.0) {
            Ok(content) => content,
            Err(error) => {
                warn!("read the host's name servers from {}: {error}: external names get SERVFAIL", self.0.display());
                return Vec::new();
            }
        };
        let servers = servers(&content);
        debug!(?servers, "name servers from {}", Path::display(&self.0));
        servers
    }
}

fn servers(content: &[u8]) -> Vec<Upstream> {
    // An error means that there is no `nameserver` line.
    let servers = parse_resolv_conf(content).map(|(config, _)| config.into_parts().2).unwrap_or_default();
    let mut found: Vec<Upstream> = Vec::new();
    for server in servers.iter().take(MAX_SERVERS) {
        let upstream = Upstream::plain(SocketAddr::new(server.ip, PORT));
        if !found.contains(&upstream) {
            found.push(upstream);
        }
    }
    found
}
