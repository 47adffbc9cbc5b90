//! Harnesses for the fuzzer and the property tests.

pub mod fuzz;
#[cfg(test)]
pub(super) mod properties;
