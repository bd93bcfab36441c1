use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A field of a model's configuration that cannot be. Reads "`field` what".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {what}")]
pub struct FieldError {
    /// The field, as `outer.inner` where it is nested.
    pub field: String,
    /// What is wrong with it, and what would do.
    pub what: String,
}

impl FieldError {
    pub(super) fn new(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { field: field.into(), what: what.into() }
    }
}

/// What can go wrong with a Hugging Face folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
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
    /// A configuration that is not valid, or not supported.
    #[error("{}: {error}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field, and what is wrong with it.
        #[source]
        error: FieldError,
    },
    /// A file whose content is not what its name says.
    #[error("{}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A tensor that is missing, damaged, or does not fit.
    #[error("{}: tensor `{tensor}` {what}", path.display())]
    Tensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        what: String,
    },
    /// A folder without weights that can be read.
    #[error("{} has no model.safetensors or model.safetensors.index.json; {remedy}", dir.display())]
    NoWeights {
        /// The folder.
        dir: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "; is this the folder of a model?",
        ErrorKind::StorageFull => "; free space there, or write to another disk",
        _ => "",
    }
}

impl HubError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(super) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn tensor(path: &Path, tensor: &str, what: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), what: what.into() }
    }
}
