//! Held host ports.

use super::KernelError;
use crate::model::step::HostPort;

/// Held host ports.
#[derive(Debug, Default)]
pub struct Ports {
    _held: Vec<HostPort>,
}

impl Ports {
    /// Binds them.
    pub fn hold(&mut self, _ports: &[HostPort]) -> Result<(), KernelError> {
        Ok(())
    }

    /// Lets them go.
    pub fn release(&mut self, _ports: &[HostPort]) -> Result<(), KernelError> {
        Ok(())
    }
}
