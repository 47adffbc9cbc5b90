//! Network namespaces and throwaway machines for the tests of this floor.

pub(super) mod lab;
pub(super) mod throwaway;
