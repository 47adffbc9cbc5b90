//! What brings the kernel back to the desired state, and keeps other programs' firewalls from dropping our traffic.

pub(super) mod container_end;
pub(super) mod foreign_firewalls;
pub(super) mod reconcile;
