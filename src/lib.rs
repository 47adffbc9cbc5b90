//! netd: container networking and service discovery as one daemon.
//!
//! The modules are floors, listed here from the ground up. A module imports lower floors only, never a neighbour on its
//! own floor; `tests/layers` enforces it, and that effects live only in their home. `ARCHITECTURE.md` is the overview.

// Floor 0: what needs nothing else of netd.
pub mod base; // clocks, deadlines, budgets, logs
pub mod model; // plain data, valid once built

// Floor 1: what needs floor 0 only.
pub mod api; // the published JSON
pub mod logic; // pure functions over the model
pub mod os; // system calls, files, programs

// Floor 2: the outside world.
pub mod kernel; // the network state of Linux
pub mod runtimes; // other engines' containers and networks
pub mod store; // what survives

// Floor 3: the one owner of state.
pub mod engine;

// Floor 4: translators: HTTP, DNS, CNI, command line.
pub mod faces;

// Floor 5: file, environment and flags.
pub mod config;

// Floor 6: the assembly.
pub mod app;
