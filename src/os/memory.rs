//! Memory that the allocator keeps although nobody uses it: after a burst it goes back to the system.
#![allow(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")]

/// Gives back what the allocator of the C library keeps. It walks over all that is free, which takes some milliseconds
/// after a burst, and other threads may wait for it meanwhile.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and touches nothing but the allocator's own memory, behind its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes of memory that this process has in use or has not given back (`statm`, proc(5)); 0 where nobody can tell.
pub fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    pages.unwrap_or_default() * size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
}
