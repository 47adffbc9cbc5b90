//! Any bytes as a stored record; see `netd::store::embedded::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::store::embedded::fuzz::attack(input));
