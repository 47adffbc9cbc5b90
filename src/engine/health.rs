//! What health probes (`faces::health`) need of the lower floors: sockets in containers.

pub use crate::kernel::netns::connecting;
