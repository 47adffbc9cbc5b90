//! Classic BPF programs: their instructions, and attaching one to a socket as a filter (`SO_ATTACH_FILTER`, socket(7)).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::libc::{self, sock_filter};

/// An instruction that does not jump; `what` is its code (linux/bpf_common.h), `k` its operand.
pub const fn statement(what: u32, k: u32) -> sock_filter {
    sock_filter { code: what as u16, jt: 0, jf: 0, k }
}

/// Skips `then` instructions if the accumulator is `k`, else `otherwise` of them.
pub const fn if_equal(k: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: then, jf: otherwise, k }
}

/// Ends the program with this result: how many bytes of the packet a filter keeps (0: it drops the packet), or which
/// socket of a group receives it.
pub const fn returns(result: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, result)
}

/// Makes a socket drop packets before they are queued: the program returns how many bytes to keep.
pub fn attach(socket: impl AsFd, program: &mut [sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the option takes a struct sock_fprog, of which the kernel copies `len` instructions from `filter` during
    // the call; both live until it returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Removes the program: the socket receives everything again. A socket without one is no error.
pub fn detach(socket: impl AsFd) -> io::Result<()> {
    // SAFETY: the option takes no value; the length is that of an int, as for all options of this level.
    let result = unsafe {
        let nothing: libc::c_int = 0;
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            (&raw const nothing).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        error => Err(error),
    }
}

/// Makes a socket drop every packet before it is queued.
pub fn drop_everything(socket: impl AsFd) -> io::Result<()> {
    attach(socket, &mut [returns(0)])
}
