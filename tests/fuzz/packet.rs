//! Any bytes into the packet path of the name service; see `netd::faces::dns::testing::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::faces::dns::testing::fuzz::attack(input));
