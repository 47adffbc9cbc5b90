//! Host ports of the fake kernel: those that netd holds, and those that other processes have.

use super::World;
use crate::kernel::{KernelError, PortOwner};
use crate::model::host::step::HostPort;

impl World {
    pub(super) fn hold(&mut self, ports: &[HostPort]) -> Result<(), KernelError> {
        self.vacant(ports)?;
        self.held.extend(ports);
        Ok(())
    }

    pub(super) fn vacant(&self, ports: &[HostPort]) -> Result<(), KernelError> {
        let collides = |port: &HostPort, other: &HostPort| {
            let same_port = (port.protocol, port.port) == (other.protocol, other.port);
            let same_family = port.address.is_ipv4() == other.address.is_ipv4();
            let every = port.address.is_unspecified() || other.address.is_unspecified();
            same_port && same_family && (every || port.address == other.address)
        };
        let taken = |port: &&HostPort| self.foreign_ports.iter().any(|other| collides(port, other));
        let owner = PortOwner::Process("sshd (pid 812)".to_owned());
        ports.iter().find(taken).map_or(Ok(()), |port| Err(KernelError::PortTaken { port: *port, owner }))
    }
}
