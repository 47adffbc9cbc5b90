//! Any text as a published port; see `netd::model::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::model::fuzz::attack(input));
