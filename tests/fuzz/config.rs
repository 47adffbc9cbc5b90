//! Any text as netd.toml; see `netd::config::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::config::fuzz::attack(input));
