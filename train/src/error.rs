use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use slimpipe_allocator::AllocError;
use slimpipe_pipeline::comm::CommError;
use slimpipe_pipeline::execute;
use slimpipe_pipeline::schedule::ScheduleError;

use crate::hub::HubError;

/// What can go wrong in a training run. Each message names the setting or file and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that is unknown, of the wrong type, or cannot be.
    #[error("setting `{setting}`: {what}")]
    Setting {
        /// The setting, as `section.key`.
        setting: String,
        /// What is wrong with it, and what would do.
        what: String,
    },
    /// A configuration file that is not TOML.
    #[error("{path} is not valid TOML: {what}")]
    Toml {
        /// The file.
        path: String,
        /// The parser's message, with line and column.
        what: String,
    },
    /// Training data that is missing, empty or too short.
    #[error("data: {0}")]
    Data(String),
    /// A file that cannot be read or written.
    #[error("cannot {doing} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A checkpoint that does not fit the run, or is damaged.
    #[error("checkpoint {}: {what}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A computation on a whole model was asked of a part.
    #[error("the stage holds only a part of the model; build it with one rank and one chunk")]
    PartialModel,
    /// The loss is no longer a number.
    #[error(
        "step {step}: the loss is {loss}; lower train.lr, or raise train.warmup_steps, and train again, from the last checkpoint if there is one"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A Hugging Face folder.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Running the pipeline.
    #[error(transparent)]
    Execute(#[from] execute::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] slimpipe_runtime::Error),
    /// A differentiable operation.
    #[error(transparent)]
    Autograd(#[from] slimpipe_autograd::Error),
    /// Memory.
    #[error(transparent)]
    Memory(#[from] AllocError),
    /// Another rank.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// A run that ended for want of memory, or in a panic, and whose memory was logged up to there.
    #[error("{source}\nsee what every rank held: slimpipe trace summary {}", logs.display())]
    Traced {
        /// What ended it.
        source: Box<Error>,
        /// The folder of the ranks' logs.
        logs: PathBuf,
    },
    /// A schedule that does not exist.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// Shorthand for a result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<crate::hub::FieldError> for Error {
    fn from(error: crate::hub::FieldError) -> Self {
        Self::setting(format!("model.{}", error.field), error.what)
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; free space there, or write to another disk"
        }
        _ => "",
    }
}

impl Error {
    /// Whether there was no memory left, or a rank panicked: what an event log may explain. `self` is
    /// the error of the rank that failed first, for which only a panic counts as a failed peer.
    pub(crate) fn asks_for_a_trace(&self) -> bool {
        use slimpipe_autograd::Error as Autograd;
        use slimpipe_runtime::Error as Tensor;
        let memory = |error: &AllocError| matches!(error, AllocError::OutOfMemory(_));
        let tensor = |error: &Tensor| matches!(error, Tensor::Memory(error) if memory(error));
        let autograd = |error: &Autograd| matches!(error, Autograd::Tensor(error) if tensor(error));
        let panic = |error: &CommError| matches!(error, CommError::PeerFailed { .. });
        match self {
            Self::Memory(error) | Self::Execute(execute::Error::Memory(error)) => memory(error),
            Self::Tensor(error) | Self::Execute(execute::Error::Tensor(error)) => tensor(error),
            Self::Autograd(error) | Self::Execute(execute::Error::Autograd(error)) => {
                autograd(error)
            }
            Self::Comm(error) | Self::Execute(execute::Error::Comm(error)) => panic(error),
            _ => false,
        }
    }

    /// Says which setting or flag named the data, where the error is about data.
    pub fn about(self, setting: &str) -> Self {
        match self {
            Self::Data(what) => Self::setting(setting, what),
            other => other,
        }
    }

    /// An error about `setting`.
    pub fn setting(setting: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Setting { setting: setting.into(), what: what.into() }
    }

    /// Adds what was done to which file to an I/O error.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
