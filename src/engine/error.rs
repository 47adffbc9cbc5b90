//! Why a command failed: refused (the caller can fix it) or failed (the host or a bug).

use crate::kernel::{KernelError, PortOwner, find_port_owners};
use crate::logic::refusal::{Refusal, RefusalKind, ServiceRefusal};
use crate::store::StoreError;

/// Why a command failed. No part of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller can fix it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The kernel refused a step; the steps before it were undone.
    #[error("{error}{}", also(.undo))]
    Kernel {
        /// The first error.
        #[source]
        error: KernelError,
        /// Errors while undoing.
        undo: Vec<KernelError>,
    },
    /// The store refused the change; nothing was changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One failure that is returned to several callers.
    #[error(transparent)]
    Shared(std::sync::Arc<Error>),
    /// Not everything could be removed.
    #[error("tear down netd: {}: see the log, and repeat the command", standing(.left, .errors))]
    Standing {
        /// What is left.
        left: Vec<String>,
        /// What failed.
        errors: Vec<String>,
    },
    /// The daemon is stopping.
    #[error("netd is stopping: try again after its restart (`netd status --wait 10`)")]
    Stopped,
}

fn standing(left: &[String], errors: &[String]) -> String {
    let left = left.iter().map(|left| format!("left to do: {left}"));
    left.chain(errors.iter().cloned()).collect::<Vec<_>>().join("; ")
}

fn also(undo: &[KernelError]) -> String {
    undo.iter().map(|error| format!("; undo failed: {error}")).collect()
}

/// Error classes that faces map to their own codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is invalid (HTTP 400).
    Invalid,
    /// The request names an object that does not exist (404).
    NotFound,
    /// The request conflicts with an existing object (409).
    Conflict,
    /// A resource is exhausted (409, code `exhausted`).
    Exhausted,
    /// The existing object differs from what netd made (409, code `changed`).
    Changed,
    /// Temporarily unavailable; retry later (503).
    Unavailable,
    /// The kernel, or a program that netd needs, refused unexpectedly (500, code `kernel`).
    Kernel,
    /// netd itself failed, in most cases with its files (500).
    Failed,
}

impl ErrorKind {
    /// The `code` in the published error JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Exhausted => "exhausted",
            Self::Changed => "changed",
            Self::Unavailable => "unavailable",
            Self::Kernel => "kernel",
            Self::Failed => "failed",
        }
    }
}

impl From<KernelError> for Error {
    fn from(error: KernelError) -> Self {
        Self::Kernel { error, undo: Vec::new() }
    }
}

impl Error {
    /// The owner of the host port that is taken, if that is the reason.
    pub(crate) fn port_owner(&mut self) -> Option<&mut PortOwner> {
        match self {
            Self::Kernel { error: KernelError::PortTaken { owner, .. }, .. } => Some(owner),
            _ => None,
        }
    }

    /// Names the process that has the port, if that is why a command failed. The search takes long on a large host and
    /// therefore runs outside the engine's thread.
    pub(super) async fn with_port_owner(mut self) -> Self {
        if !matches!(self.port_owner(), Some(PortOwner::Socket(_))) {
            return self;
        }
        let search = move || {
            find_port_owners(&mut self.port_owner().into_iter().collect::<Vec<_>>());
            self
        };
        tokio::task::spawn_blocking(search).await.unwrap_or(Self::Stopped)
    }

    /// Whether a service has another version than the update was made for.
    pub fn is_out_of_sequence(&self) -> bool {
        matches!(self, Self::Refused(Refusal::Service(ServiceRefusal::OutOfSequence { .. })))
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => match refusal.kind() {
                RefusalKind::Invalid => ErrorKind::Invalid,
                RefusalKind::NotFound => ErrorKind::NotFound,
                RefusalKind::Conflict => ErrorKind::Conflict,
                RefusalKind::Exhausted => ErrorKind::Exhausted,
                RefusalKind::Changed => ErrorKind::Changed,
            },
            Self::Kernel { error, .. } => match error {
                KernelError::PortTaken { .. } | KernelError::NameTaken { .. } => ErrorKind::Conflict,
                KernelError::NoNetns { .. } => ErrorKind::NotFound,
                KernelError::NoAddress { .. } | KernelError::NoRoute { .. } => ErrorKind::Invalid,
                KernelError::Io { .. } => ErrorKind::Kernel,
            },
            Self::Shared(error) => error.kind(),
            Self::Standing { .. } => ErrorKind::Kernel,
            Self::Store(_) => ErrorKind::Failed,
            Self::Stopped => ErrorKind::Unavailable,
        }
    }
}
