//! Egress, as the name service and the engine share it: what is open for containers ([`opened`]), and what containers have
//! asked and been denied ([`log`]).

pub mod log;
pub mod opened;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use log::{Line, What};
use log::{Logs, Verdict};
use opened::Opened;

use crate::model::ids::ContainerId;
use crate::model::policy::Ports;

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How much longer than its time to live an answered address stays open.
    pub grace: Duration,
    /// How many addresses are open for a container at a time.
    pub addresses: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace: Duration::from_secs(60), addresses: 1024 }
    }
}

/// An answer to a container, whose addresses are to be opened before the reply leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Who asked.
    pub container: ContainerId,
    /// The name that was asked, in lower case.
    pub name: String,
    /// The addresses with their times to live.
    pub addresses: Vec<(IpAddr, Duration)>,
    /// The ports that are allowed; `None`: everything.
    pub ports: Option<Vec<Ports>>,
}

/// What the name service and the engine share.
#[derive(Debug, Default)]
pub struct Egress {
    opened: Mutex<Opened>,
    logs: Mutex<Logs>,
}

impl Egress {
    /// What is open.
    pub(crate) fn opened(&self) -> MutexGuard<'_, Opened> {
        // No statement that changes the data can panic.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The logs of containers.
    pub(crate) fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container has asked for a name.
    pub fn asked(&self, container: &ContainerId, name: &str, kind: String, verdict: Verdict) {
        self.logs().asked(container, name, kind, verdict);
    }

    /// These addresses were answered to a container for the name.
    pub fn named(&self, container: &ContainerId, name: &str, addresses: &[(IpAddr, Duration)]) {
        self.logs().named(container, name, addresses.iter().map(|(to, _)| to));
    }

    /// What a container has asked and been denied, the most recent last.
    pub fn log(&self, container: &ContainerId) -> Vec<Line> {
        self.logs().of(container)
    }
}
