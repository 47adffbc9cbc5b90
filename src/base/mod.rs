//! Floor 0: what every daemon needs and what knows nothing about networks.

pub mod clock;
pub mod connections;
pub mod deadline;
pub mod descriptors;
pub mod monotonic;
pub mod private;
pub mod shares;
pub mod telemetry;
