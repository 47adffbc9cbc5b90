//! Ring 2: the engine with faults of the kernel and the store. A model of the tests (`tests/support/model.rs`) judges what
//! is left.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on stops")]
#![allow(dead_code, unused_imports, reason = "the laboratory is larger than what uses it as yet")]

mod lab;
#[path = "../support/model.rs"]
mod model;
mod regressions;
mod view;
