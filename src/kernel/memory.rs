//! Memory that the allocator keeps although nobody uses it: after a burst it goes back to the system.
#![allow(unsafe_code)]

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_took_goes_back() {
        const BLOCK: usize = 2000;
        let mut blocks: Vec<Box<[u8]>> = (0..20_000).map(|n| vec![n as u8; BLOCK].into()).collect();
        // The allocator gives back by itself what is free at the end of its memory.
        let last = blocks.pop();
        let full = resident();
        assert!(full > 40_000_000, "{full}");
        drop(blocks);
        give_back();
        if cfg!(target_env = "gnu") {
            assert!(resident() + 30_000_000 < full, "{} of {full}", resident());
        }
        drop(last);
    }
}
