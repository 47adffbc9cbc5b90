//! What faces ask about the host itself: only the floor below knows the kernel.

use std::io;

pub use crate::kernel::link::index_of;
use crate::kernel::netns_of_process;
use crate::os::own_netns;

/// Whether the process is in the network namespace that netd works in, so that both know an interface by the same
/// index. Fails where there is no such process, or it may not be looked at.
pub fn shares_network_with(pid: u32) -> io::Result<bool> {
    own_netns::is_own(&netns_of_process(pid))
}
