//! Whether a namespace is the one that this process is in.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Whether the file at the path is the network namespace of the calling thread. Fails if there is no such file.
pub fn is_own(path: &Path) -> io::Result<bool> {
    let there = fs::metadata(path)?;
    let own = fs::metadata("/proc/thread-self/ns/net")?;
    Ok((there.dev(), there.ino()) == (own.dev(), own.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_namespace_is_own() {
        assert!(is_own(Path::new("/proc/self/ns/net")).unwrap());
        assert!(!is_own(Path::new("/proc/self/ns/mnt")).unwrap());
        assert!(!is_own(Path::new("/dev/null")).unwrap());
        assert_eq!(is_own(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
