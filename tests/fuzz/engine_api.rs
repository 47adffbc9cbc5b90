//! Any bytes as a request to the Engine API; see `netd::faces::engine_api::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::faces::engine_api::fuzz::attack(input));
