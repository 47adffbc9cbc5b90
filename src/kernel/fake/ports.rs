//! Host ports of the fake kernel: those that netd holds, and those that other processes have.

use std::collections::BTreeSet;

use super::World;
use crate::kernel::{KernelError, PortOwner};
use crate::model::host::step::{HostPort, HostPorts};

impl World {
    pub(super) fn hold(&mut self, ports: &[HostPorts]) -> Result<(), KernelError> {
        self.vacant(ports)?;
        self.held.extend(ports);
        Ok(())
    }

    pub(super) fn vacant(&self, ports: &[HostPorts]) -> Result<(), KernelError> {
        let taken = |ports: &HostPorts| self.foreign_ports.iter().find(|other| collides(ports, other));
        let owner = PortOwner::Process("sshd (pid 812)".to_owned());
        ports.iter().find_map(taken).map_or(Ok(()), |port| Err(KernelError::PortTaken { port: *port, owner }))
    }

    /// A range in which another process has taken a port is not held any more.
    pub(super) fn held(&self) -> BTreeSet<HostPorts> {
        let is_held = |ports: &&HostPorts| {
            ports.single().is_some() || !self.foreign_ports.iter().any(|other| collides(ports, other))
        };
        self.held.iter().filter(is_held).copied().collect()
    }
}

fn collides(ports: &HostPorts, other: &HostPort) -> bool {
    let same_port = ports.protocol == other.protocol && ports.ports.contains(other.port);
    let same_family = ports.address.is_ipv4() == other.address.is_ipv4();
    let every = ports.address.is_unspecified() || other.address.is_unspecified();
    same_port && same_family && (every || ports.address == other.address)
}
