//! What a burst took of memory goes back to the system. A binary of its own: other tests would take memory meanwhile.

use netd::os::memory::{give_back, resident};

#[test]
fn memory_of_a_burst_is_returned() {
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
