//! Any bytes as a dump of the firewall table; see `netd::kernel::nft::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::kernel::nft::fuzz::attack(input));
