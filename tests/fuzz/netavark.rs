//! Any bytes as the input of `netd-netavark`; see `netd::faces::netavark::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::faces::netavark::fuzz::attack(input));
