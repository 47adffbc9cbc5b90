//! Floor 0: general tools of a daemon that are independent of networks.

pub mod clock;
pub mod connections;
pub mod deadline;
pub mod descriptors;
pub mod monotonic;
pub mod private;
pub mod shares;
pub mod telemetry;
