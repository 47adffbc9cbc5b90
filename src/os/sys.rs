//! System calls without a safe wrapper: namespace descriptors and cookies, notifications of other namespaces, the
//! carrier of an interface, process and inherited descriptors, limits of children, a private procfs.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// `SO_NETNS_COOKIE` (asm-generic/socket.h, Linux 5.14).
const SO_NETNS_COOKIE: libc::c_int = 71;
/// `SIOCETHTOOL` (linux/sockios.h).
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// `ETHTOOL_GLINK` (linux/ethtool.h).
const ETHTOOL_GLINK: u32 = 0x0a;

/// `struct ethtool_value` (linux/ethtool.h).
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// The `CLONE_NEW…` flag of the namespace that a descriptor of an nsfs file is (ioctl_ns(2)).
pub fn namespace_type(namespace: impl AsFd) -> io::Result<libc::c_int> {
    // SAFETY: NS_GET_NSTYPE takes no argument and writes nothing; the descriptor is open while it is borrowed.
    let kind = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), libc::NS_GET_NSTYPE) };
    if kind < 0 { Err(io::Error::last_os_error()) } else { Ok(kind) }
}

/// A descriptor that becomes readable when the thread ends (pidfd_open(2)). Before Linux 6.9 it is that of its process.
pub fn thread_pidfd(id: u32) -> io::Result<OwnedFd> {
    /// `PIDFD_THREAD` (linux/pidfd.h).
    const THREAD: libc::c_int = libc::O_EXCL;
    let open = |flags: libc::c_int| {
        // SAFETY: two numbers go in, a descriptor or -1 comes out.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, id, flags) };
        match RawFd::try_from(descriptor) {
            // SAFETY: the kernel has just opened it, and nobody else knows it.
            Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
            _ => Err(io::Error::last_os_error()),
        }
    };
    match open(THREAD) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open(0),
        outcome => outcome,
    }
}

/// The cookie of the network namespace that a socket belongs to; `None` if the kernel does not provide it.
pub fn netns_cookie(socket: impl AsFd) -> Option<u64> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: value and length point to live locals of the sizes that the kernel expects for this option; the
    // descriptor is open while it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    (result == 0 && length as usize == size_of::<u64>()).then_some(cookie)
}

/// Receives a datagram of a netlink socket that listens to all namespaces (`NETLINK_LISTEN_ALL_NSID`, netlink(7)), into
/// the buffer's capacity and without waiting. Returns the number by which the socket's namespace knows the one that the
/// datagram came from; `None`: its own.
pub fn receive_with_netns(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<Option<i32>> {
    buffer.clear();
    // Aligned for a struct cmsghdr, with room for two small messages.
    let mut control = [0u64; 8];
    let spare = buffer.spare_capacity_mut();
    let mut part = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: spare.len() };
    // SAFETY: all bytes zero is a valid msghdr: null pointers and lengths of 0.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the header refers to live buffers of the lengths that it states; the descriptor is open while it is
    // borrowed.
    let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(length) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    // SAFETY: the kernel has initialised that many bytes, at most those of the spare capacity.
    unsafe { buffer.set_len(length) };
    // SAFETY: the header is as recvmsg(2) left it; the macros stay within the control buffer, which is aligned.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: the pointer came from the macros and is not null.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        if (level, kind) == (libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID) {
            // SAFETY: this message carries an int (netlink_cmsg_listen_all_nsid, net/netlink/af_netlink.c).
            return Ok(Some(unsafe { libc::CMSG_DATA(header).cast::<i32>().read_unaligned() }));
        }
        // SAFETY: as for the first one.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(None)
}

/// Makes the kernel process a change of the interface's carrier now, instead of on its work queue a moment later: only
/// then does the interface send, and its bridge port forward (`__ethtool_get_link` calls `linkwatch_sync_dev`,
/// net/core/link_watch.c). `socket`: any socket of the interface's namespace. Returns whether there is a carrier.
pub fn settle_carrier(socket: impl AsFd, ifname: &str) -> io::Result<bool> {
    let mut value = EthtoolValue { command: ETHTOOL_GLINK, data: 0 };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() },
    };
    // The last byte stays 0.
    for (place, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(ifname.bytes()) {
        *place = byte as libc::c_char;
    }
    // SAFETY: the request is a live ifreq whose data points to a live ethtool_value, which is what ETHTOOL_GLINK reads
    // and writes; the descriptor is open while it is borrowed.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data != 0) }
}

/// A descriptor (close-on-exec) that becomes readable when the process ends (pidfd_open(2), Linux 5.3). The process
/// must be a child that has not been waited for, because otherwise the number may have been reused.
pub fn pidfd(child: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and touches no memory of ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(child), 0 as libc::c_long) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us, and nobody else knows it. Descriptors fit an int.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

/// Takes ownership of the descriptors that the parent process passed on by number. Works once per process.
///
/// # Errors
/// If one is not open, is a standard stream or is named twice, or if this process has taken over descriptors before.
///
/// # Safety
/// Nothing else in this process may own one of them: the caller knows that the parent opened them for it.
pub unsafe fn inherited(descriptors: &[RawFd]) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let twice = |(at, descriptor): (usize, &RawFd)| descriptors[..at].contains(descriptor);
    if descriptors.iter().any(|descriptor| *descriptor <= libc::STDERR_FILENO)
        || descriptors.iter().enumerate().any(twice)
        || TAKEN.swap(true, Ordering::Relaxed)
    {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for descriptor in descriptors {
        // SAFETY: F_SETFD takes an integer and only asks the kernel about the number; a closed one is refused.
        if unsafe { libc::fcntl(*descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: each is open and named once (checked above), taken over once (`TAKEN`), and owned by nothing else (the
    // caller).
    Ok(descriptors.iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(*descriptor) }).collect())
}

/// Passes the descriptors on to the process that the command becomes, and to no other that this program starts
/// meanwhile. They must be open when it is spawned; the process finds them under the same numbers.
pub fn hand_down(command: &mut Command, descriptors: [RawFd; 2]) {
    let keep = move || {
        for descriptor in descriptors {
            // SAFETY: F_SETFD takes an integer and only asks the kernel about the number.
            if unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions are called: fcntl(2), and errno is read.
    unsafe { command.pre_exec(keep) };
}

/// Gives the process that the command becomes this soft limit of open files.
pub fn limit_descriptors(command: &mut Command, soft: libc::rlim_t) {
    let limit = move || {
        let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes a struct rlimit into a live local of that type.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) } < 0 {
            return Err(io::Error::last_os_error());
        }
        limits.rlim_cur = soft.min(limits.rlim_max);
        // SAFETY: the kernel reads a struct rlimit from a live local of that type.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions are called: getrlimit(2) and setrlimit(2) are
    // system calls without any state in libc, and errno is read.
    unsafe { command.pre_exec(limit) };
}

/// `FSOPEN_CLOEXEC`, `FSCONFIG_CMD_CREATE`, `FSMOUNT_CLOEXEC` (linux/mount.h, Linux 5.2).
const FSOPEN_CLOEXEC: libc::c_long = 1;
const FSCONFIG_CMD_CREATE: libc::c_long = 6;
const FSMOUNT_CLOEXEC: libc::c_long = 1;

/// A private procfs that is not mounted anywhere: it is accessible through the descriptor (close-on-exec) and ends with
/// it.
///
/// # Errors
/// `EPERM` in a user namespace that may not mount all of procfs.
pub fn private_proc() -> io::Result<OwnedFd> {
    const ZERO: libc::c_long = 0;
    let opened = |result: libc::c_long| -> io::Result<OwnedFd> {
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened it for us, and nobody else knows it. Descriptors fit an int.
        Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
    };
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    let context = opened(unsafe { libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC) })?;
    let number = libc::c_long::from(context.as_raw_fd());
    // SAFETY: this command takes no key and no value: null pointers and 0 (fs/fsopen.c); the descriptor is open.
    if unsafe { libc::syscall(libc::SYS_fsconfig, number, FSCONFIG_CMD_CREATE, ZERO, ZERO, ZERO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes integers only; the descriptor is open.
    opened(unsafe { libc::syscall(libc::SYS_fsmount, number, FSMOUNT_CLOEXEC, ZERO) })
}

/// The number of columns of a terminal; `None` if it is not a terminal or the number is unknown.
pub fn terminal_width(terminal: impl AsFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a `winsize`, which lives here (ioctl_tty(2)); the descriptor is open while it is
    // borrowed.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
