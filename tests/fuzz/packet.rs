//! Any bytes into the packet path of the name service; see `netd::faces::dns::door` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::faces::dns::door::attack(input));
