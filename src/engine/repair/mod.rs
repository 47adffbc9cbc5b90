//! Repair: restores the desired state in the kernel, and keeps other programs' firewalls from dropping netd's traffic.

pub(super) mod container_end;
pub(super) mod due;
pub(super) mod foreign_firewalls;
mod forwarding;
mod learned_mac;
mod links;
mod liveness;
pub(super) mod monitors;
mod overlaps;
pub(super) mod reconcile;
pub(super) mod recover;
mod stacked;
