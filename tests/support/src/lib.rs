//! What the tests and benchmarks of netd share.
//!
//! A test program takes what it needs with `use netd_testing::…`; what only one program needs is in its own folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends at the first surprise")]

pub mod clock; // a clock that the test moves
pub mod cni; // the CNI plugin as a process, and a thread that plays the daemon
pub mod conf; // CNI configurations
pub mod dns; // the name service on loopback sockets, and upstreams
pub mod engine; // the engine over the fake kernel
pub mod harness; // tests that cannot run here
pub mod inputs; // seeds of the fuzzer and mutations of them
pub mod lab; // the daemon and the kernel, in namespaces of a test
pub mod model; // what the kernel must have
pub mod programs; // netd and netd-cni as they were built
pub mod request; // requests to the API
pub mod wait; // waiting with a deadline
pub mod zone; // a network of 1,000 names, for benchmarks
