//! Unused memory that the allocator retains: returned to the system after a burst.
#![allow(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")]

/// Returns the memory that the C library's allocator retains. It walks over all free memory, which takes some
/// milliseconds after a burst, and may block other threads meanwhile.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and touches nothing but the allocator's own memory, behind its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes of memory that this process uses or has not returned (`statm`, proc(5)); 0 if unknown.
pub fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    pages.unwrap_or_default() * size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
}
