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
        let failed = |error| {
            let path = path.display();
            Error::Data(format!("{path} is not a tokenizer: {error}; give a tokenizer.json"))
        };
        let inner = tokenizers::Tokenizer::from_file(path).map_err(failed)?;
        Ok(Self { inner })
    }

    #[cfg(feature = "tokenizers")]
    pub(super) fn encode(&self, path: &Path) -> Result<Vec<u32>> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let failed = |error| Error::Data(format!("cannot tokenise {}: {error}", path.display()));
        Ok(self.inner.encode(text, false).map_err(failed)?.get_ids().to_vec())
    }

    #[cfg(not(feature = "tokenizers"))]
    pub(super) fn open(path: &Path) -> Result<Self> {
        Err(Error::Data(format!(
            "text would need the tokenizer {}, and this build has none; build with `--features tokenizers`, name .bin token files, or leave data.tokenizer out to train on bytes",
            path.display()
        )))
    }

    #[cfg(not(feature = "tokenizers"))]
    pub(super) fn encode(&self, path: &Path) -> Result<Vec<u32>> {
        Err(Error::Data(format!("cannot tokenise {} without tokenizers", path.display())))
    }
}
