//! Network namespaces and throwaway machines for the tests of this floor.

#[path = "../../../tests/support/harness.rs"]
pub(super) mod harness;
pub(super) mod lab;
pub(super) mod throwaway;
