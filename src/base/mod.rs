//! Floor 1: what every daemon needs and what knows nothing about networks.

pub mod clock;
pub mod deadline;
pub mod monotonic;
pub mod telemetry;
