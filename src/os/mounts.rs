//! Mounts that belong to no mount namespace yet, and paths that stay within a root directory: system calls without a
//! safe wrapper.
#![allow(unsafe_code, reason = "open_tree(2) and move_mount(2) have no safe wrapper")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// `OPEN_TREE_CLONE` (linux/mount.h).
const OPEN_TREE_CLONE: libc::c_uint = 1;
/// `MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH` (linux/mount.h): both ends are descriptors.
const BOTH_ARE_DESCRIPTORS: libc::c_uint = 0x4 | 0x40;

/// A bind mount of the file that is attached nowhere, so that another mount namespace can get it (open_tree(2)).
pub fn detached(file: &Path) -> io::Result<OwnedFd> {
    let file = CString::new(file.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: the path is a live C string; a descriptor or -1 comes out.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, file.as_ptr(), flags) };
    match RawFd::try_from(tree) {
        // SAFETY: the kernel has just opened it, and nobody else knows it.
        Ok(tree) if tree >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(tree) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Attaches a detached mount over a file of the thread's mount namespace (move_mount(2)).
pub fn attach(mount: impl AsFd, over: impl AsFd) -> io::Result<()> {
    let (mount, over) = (mount.as_fd().as_raw_fd(), over.as_fd().as_raw_fd());
    // SAFETY: the descriptors are open while they are borrowed, and both paths are live, empty C strings.
    let result =
        unsafe { libc::syscall(libc::SYS_move_mount, mount, c"".as_ptr(), over, c"".as_ptr(), BOTH_ARE_DESCRIPTORS) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
