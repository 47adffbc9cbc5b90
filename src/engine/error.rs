//! Why a command was not done: refused (the caller can fix it) or failed (the host or a bug).

use crate::kernel::KernelError;
use crate::logic::refusal::{Refusal, RefusalKind};
use crate::store::StoreError;

/// Why a command was not done. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller can fix it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The kernel did not do it; what was done before is undone.
    #[error("{error}{}", also(.undo))]
    Kernel {
        /// The first thing that went wrong.
        #[source]
        error: KernelError,
        /// What went wrong while undoing.
        undo: Vec<KernelError>,
    },
    /// The store did not take it; nothing was changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One failure that several callers hear of.
    #[error(transparent)]
    Shared(std::sync::Arc<Error>),
    /// The daemon is stopping.
    #[error("netd is stopping: try again when it is back (`netd status --wait 10`)")]
    Stopped,
}

fn also(undo: &[KernelError]) -> String {
    undo.iter().map(|error| format!("; and while undoing: {error}")).collect()
}

/// The classes that faces map to their own codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong (HTTP 400).
    Invalid,
    /// What it names is not there (404).
    NotFound,
    /// It collides with what is there (409).
    Conflict,
    /// No room left (409, code `exhausted`).
    Exhausted,
    /// What is there is not what netd made (409, code `changed`).
    Changed,
    /// Come again later (503).
    Unavailable,
    /// The kernel, or a program that netd needs, refused what could not be foreseen (500, code `kernel`).
    Kernel,
    /// netd itself failed, its files above all (500).
    Failed,
}

impl ErrorKind {
    /// The `code` of the published error JSON.
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
    /// Its class.
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
                KernelError::NoAddress { .. } => ErrorKind::Invalid,
                KernelError::Io { .. } => ErrorKind::Kernel,
            },
            Self::Shared(error) => error.kind(),
            Self::Store(_) => ErrorKind::Failed,
            Self::Stopped => ErrorKind::Unavailable,
        }
    }
}
