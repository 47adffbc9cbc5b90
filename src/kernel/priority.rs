//! Which thread comes first when the machine is busy.
#![allow(unsafe_code, reason = "nix does not have setpriority(2)")]

use std::io;

/// From 19 (last) to -20 (first): well before what runs by default (0), behind what must not wait at all.
const SOON: libc::c_int = -10;

/// Lets the calling thread run soon after it has something to do, whatever else runs on the machine. Needs
/// CAP_SYS_NICE (setpriority(2)).
pub fn run_soon() -> io::Result<()> {
    // SAFETY: takes numbers only. On Linux the process 0 is the calling thread, not its whole process.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, SOON) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_this_thread_alone() {
        let nice = || {
            std::fs::read_to_string("/proc/thread-self/stat").map(|stat| {
                stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(16).map(str::to_owned)).unwrap()
            })
        };
        let before = nice().unwrap();
        let other = std::thread::spawn(move || run_soon().map(|()| nice().unwrap())).join().unwrap();
        // Without privileges it is refused.
        assert!(other.as_ref().map_or(true, |nice| nice == "-10"), "{other:?}");
        assert_eq!(nice().unwrap(), before);
    }
}
