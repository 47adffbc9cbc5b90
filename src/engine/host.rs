//! Queries of faces about the host itself: faces use the engine instead of the kernel floor.

use std::io;

pub use crate::kernel::link::index_of;
use crate::kernel::netns_of_process;
use crate::os::own_netns;

/// Whether the process is in the network namespace that netd works in, so that both use the same interface indices.
/// Fails if there is no such process, or if netd may not inspect it.
pub fn shares_network_with(pid: u32) -> io::Result<bool> {
    own_netns::is_own(&netns_of_process(pid))
}
