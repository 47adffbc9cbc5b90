//! Repair: restores the desired state in the kernel, and keeps other programs' firewalls from dropping netd's traffic.

pub(super) mod container_end;
pub(super) mod foreign_firewalls;
pub(super) mod monitors;
pub(super) mod reconcile;
