//! Hugging Face tokenizers, behind the feature of that name.

use std::path::Path;

use crate::{Error, Result};

/// A `tokenizer.json`.
pub(super) struct Tokenizer {
    #[cfg(feature = "tokenizers")]
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    #[cfg(feature = "tokenizers")]
    pub(super) fn open(path: &Path) -> Result<Self> {
        let what = |error| format!("{} is not a tokenizer: {error}", path.display());
        let inner = tokenizers::Tokenizer::from_file(path)
            .map_err(|e| Error::setting("data.tokenizer", what(e)))?;
        Ok(Self { inner })
    }

    #[cfg(feature = "tokenizers")]
    pub(super) fn encode(&self, path: &Path) -> Result<Vec<u32>> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let failed = |error| Error::Data(format!("cannot tokenise {}: {error}", path.display()));
        Ok(self.inner.encode(text, false).map_err(failed)?.get_ids().to_vec())
    }

    #[cfg(not(feature = "tokenizers"))]
    pub(super) fn open(_: &Path) -> Result<Self> {
        let what = "this build has no tokenizers; build with `--features tokenizers`, or leave the setting out to train on bytes";
        Err(Error::setting("data.tokenizer", what))
    }

    #[cfg(not(feature = "tokenizers"))]
    pub(super) fn encode(&self, path: &Path) -> Result<Vec<u32>> {
        Err(Error::Data(format!("cannot tokenise {} without tokenizers", path.display())))
    }
}
