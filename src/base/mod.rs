//! Floor 1: what every daemon needs and what knows nothing about networks.

pub mod clients;
pub mod clock;
pub mod deadline;
pub mod descriptors;
pub mod monotonic;
pub mod private;
pub mod shares;
pub mod telemetry;
