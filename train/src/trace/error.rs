use std::path::{Path, PathBuf};

use slimpipe_allocator::events::ReadError;

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// There is none.
    #[error(
        "{}: {what}; name the folder of a run, its memory.events, or one rank's log in there (runs write them unless memory.trace is false)",
        path.display()
    )]
    NoLogs {
        /// What was named.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A log that is damaged, foreign, or cannot be.
    #[error("{}: {source}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// What is wrong, and at which byte.
        source: ReadError,
    },
}

impl TraceError {
    /// Names the log to an error.
    pub(super) fn of(path: &Path) -> impl FnOnce(ReadError) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Log { path, source }
    }
}
