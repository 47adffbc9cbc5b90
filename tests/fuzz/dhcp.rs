//! Any bytes as a frame of a DHCP server; see `netd::logic::dhcp::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::logic::dhcp::fuzz::attack(input));
