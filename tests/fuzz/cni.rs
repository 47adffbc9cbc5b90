//! Any bytes on standard input of the CNI plugin; see `netd::faces::cni::fuzz` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netd::faces::cni::fuzz::attack(input));
