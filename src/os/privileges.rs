//! What this process may do: its capabilities (capabilities(7)), and whether a program that it runs may gain more.
#![allow(unsafe_code, reason = "nix has neither capset(2) nor the bounding set of prctl(2)")]

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;

/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h): sets of 64 bits in two halves.
const VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    /// 0: the calling thread.
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`: one half of each set.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up every capability except those of `kept` (numbers of linux/capability.h), for the calling thread, the threads
/// and programs that it starts from now on, and for good. Must be called before the process has a second thread.
pub fn keep_only(kept: &[u32]) -> io::Result<()> {
    let keeps = |half: usize| {
        kept.iter().filter(|number| **number as usize / 32 == half).fold(0, |set: u32, number| set | 1 << (number % 32))
    };
    limit_programs(kept)?;
    prctl::set_no_new_privs()?;
    let mut halves = get()?;
    for (half, keeps) in halves.iter_mut().zip([keeps(0), keeps(1)]) {
        half.effective &= keeps;
        half.permitted &= keeps;
        half.inheritable &= keeps;
    }
    set(&halves)
}

/// Takes the others out of the bounding set: no program that this thread runs can have them.
fn limit_programs(kept: &[u32]) -> io::Result<()> {
    for number in (0..).filter(|number| !kept.contains(number)) {
        // SAFETY: takes and returns integers only.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) }) {
            Ok(0) => continue,
            Ok(_) => {}
            // There are no capabilities of this number and beyond.
            Err(Errno::EINVAL) if number > 31 => return Ok(()),
            Err(Errno::EINVAL) => continue,
            Err(error) => return Err(error.into()),
        }
        // SAFETY: as above.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) }) {
            // Without CAP_SETPCAP; programs gain nothing all the same, since they get no new privileges.
            Ok(_) | Err(Errno::EPERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn get() -> io::Result<[Half; 2]> {
    let (mut header, mut halves) = (Header { version: VERSION, pid: 0 }, [Half::default(); 2]);
    // SAFETY: for this version the kernel writes two halves; header and halves are live locals of the types it expects.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) })?;
    Ok(halves)
}

fn set(halves: &[Half; 2]) -> io::Result<()> {
    let mut header = Header { version: VERSION, pid: 0 };
    // SAFETY: for this version the kernel reads two halves; header and halves live until the call returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_kept_is_left() {
        let numbers = [12, 13, 39];
        // Capabilities belong to the thread, and this one ends with the test.
        let thread = std::thread::spawn(move || {
            let before = get().unwrap();
            keep_only(&numbers).unwrap();
            (before, get().unwrap(), std::fs::read_to_string("/proc/thread-self/status").unwrap())
        });
        let (before, after, status) = thread.join().unwrap();
        let keeps = [1 << 12 | 1 << 13, 1 << 7];
        for half in 0..2 {
            assert_eq!(after[half].effective, before[half].effective & keeps[half]);
            assert_eq!(after[half].permitted, before[half].permitted & keeps[half]);
        }
        assert!(status.lines().any(|line| line == "NoNewPrivs:\t1"), "{status}");
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
        if nix::unistd::geteuid().is_root() {
            let kept = numbers.iter().fold(0u64, |set, number| set | 1 << number);
            assert_eq!(u64::from_str_radix(bounding, 16).unwrap() & !kept, 0, "{status}");
        }
    }
}
