//! netd: container networking and service discovery as one daemon.
//!
//! The modules are floors. A module imports lower floors only, never a neighbour on its own floor; `tests/layers.rs`
//! enforces it, and that effects live only in their home. `ARCHITECTURE.md` tells the story.

pub mod api; // 1  the published JSON
pub mod app;
pub mod base; // 1  clock, drain, telemetry
pub mod config; // 5  file, environment and flags
pub mod engine; // 3  the one owner of state
pub mod faces; // 4  translators: HTTP, DNS, command line
pub mod kernel; // 2  Linux
pub mod logic; // 1  pure functions over model
pub mod model; // 0  plain data, valid once built
pub mod store; // 2  what survives // 6  the assembly
