//! Any bytes as a datagram of rtnetlink; see `netd::kernel::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::kernel::fuzz::attack(input));
