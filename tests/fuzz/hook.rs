//! Any bytes as a container's state and config.json; see `netd::faces::cli::fuzz_hook` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::faces::cli::fuzz_hook::attack(input));
