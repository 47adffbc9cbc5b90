//! Any bytes as the body of a request; see `netd::api::v1::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::api::v1::fuzz::attack(input));
