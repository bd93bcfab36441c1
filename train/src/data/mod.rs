//! Tokens: where they come from, and which of them a step trains on.

mod sampler;
mod text;
mod token_file;
mod tokenize;

pub use sampler::Sampler;
pub use token_file::TokenFile;

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// One long sequence of tokens, from text, token files or both.
#[derive(Debug, Default)]
pub struct Tokens {
    parts: Vec<Part>,
    len: usize,
}

#[derive(Debug)]
enum Part {
    /// Text whose bytes are its tokens.
    Bytes(Vec<u8>),
    /// Text that was tokenised.
    Ids(Vec<u32>),
    /// A file of tokens, mapped.
    File(TokenFile),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Ids(ids) => ids.len(),
            Self::File(file) => file.len(),
        }
    }

    fn get(&self, index: usize) -> u32 {
        match self {
            Self::Bytes(bytes) => bytes[index].into(),
            Self::Ids(ids) => ids[index],
            Self::File(file) => file.get(index),
        }
    }
}

impl Tokens {
    /// Opens text files, folders of text, and token files (`.bin`). Text is tokenised by the
    /// `tokenizer.json` given, or taken as bytes.
    ///
    /// # Errors
    /// Nothing there, a file that cannot be read, a tokenizer that cannot be used.
    pub fn open(paths: &[PathBuf], tokenizer: Option<&Path>) -> Result<Self> {
        let tokenizer = tokenizer.map(tokenize::Tokenizer::open).transpose()?;
        let mut tokens = Self::default();
        for path in paths {
            for file in text::files(path)? {
                tokens.push(match file.extension() {
                    Some(extension) if extension == "bin" => Part::File(TokenFile::open(&file)?),
                    _ => match &tokenizer {
                        None => {
                            Part::Bytes(std::fs::read(&file).map_err(Error::io("read", &file))?)
                        }
                        Some(tokenizer) => Part::Ids(tokenizer.encode(&file)?),
                    },
                });
            }
        }
        if tokens.len == 0 {
            let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            let what = format!(
                "there are no tokens in {}; name text files, folders of text or .bin token files in data.paths",
                if paths.is_empty() {
                    "data.paths, which is empty".to_owned()
                } else {
                    paths.join(", ")
                },
            );
            return Err(Error::Data(what));
        }
        Ok(tokens)
    }

    /// Tokens that are there already.
    pub fn from_ids(ids: Vec<u32>) -> Self {
        let mut tokens = Self::default();
        tokens.push(Part::Ids(ids));
        tokens
    }

    fn push(&mut self, part: Part) {
        self.len += part.len();
        if part.len() > 0 {
            self.parts.push(part);
        }
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens `start..start + len`.
    ///
    /// # Panics
    /// There are not that many.
    pub fn window(&self, start: usize, len: usize) -> Vec<u32> {
        assert!(start + len <= self.len, "tokens {start}..{} of {}", start + len, self.len);
        let mut out = Vec::with_capacity(len);
        let mut first = 0;
        for part in &self.parts {
            let end = first + part.len();
            let from = start.max(first);
            out.extend((from..end.min(start + len)).map(|index| part.get(index - first)));
            first = end;
        }
        out
    }

    /// Checks that a sequence of `seq_len` tokens and the token after it fit.
    ///
    /// # Errors
    /// They do not; the error says what would.
    pub fn check_context(&self, seq_len: usize, setting: &str) -> Result<()> {
        if self.len > seq_len {
            return Ok(());
        }
        let most = self.len - 1;
        Err(Error::Data(format!(
            "a context of {seq_len} tokens is longer than the data, which has {}; set {setting} to at most {most}, or name more data",
            self.len
        )))
    }

    /// Checks that every one of `ids` is below `vocab_size`.
    ///
    /// # Errors
    /// One is not: another tokenizer made the data.
    pub fn check_vocabulary(ids: &[u32], vocab_size: usize) -> Result<()> {
        match ids.iter().find(|&&id| id as usize >= vocab_size) {
            None => Ok(()),
            Some(id) => Err(Error::Data(format!(
                "token {id} is outside the model's vocabulary of {vocab_size}; the data was made by another tokenizer, or model.vocab_size is too small (bytes need 256)"
            ))),
        }
    }
}
