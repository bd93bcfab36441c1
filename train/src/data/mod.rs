//! Tokens: where they come from, and which of them a step trains on.

mod sampler;
mod text;
mod token_file;
mod tokenize;

pub use sampler::Sampler;
pub use token_file::TokenFile;

use std::path::{Path, PathBuf};

use tokenize::Tokenizer;

use crate::{Error, Result};

/// Values of a byte.
const BYTES: usize = 256;
/// Tokens of a mapped file that are checked before training begins.
const FIRST: usize = 1 << 20;

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

/// Reads text; opens the tokenizer when the first text comes, for token files need none.
struct Reader<'a> {
    path: Option<&'a Path>,
    tokenizer: Option<Tokenizer>,
}

impl Reader<'_> {
    fn read(&mut self, file: &Path) -> Result<Part> {
        let Some(path) = self.path else {
            return Ok(Part::Bytes(std::fs::read(file).map_err(Error::io("read", file))?));
        };
        let tokenizer = match self.tokenizer.take() {
            Some(tokenizer) => tokenizer,
            None => Tokenizer::open(path)?,
        };
        Ok(Part::Ids(self.tokenizer.insert(tokenizer).encode(file)?))
    }
}

impl Tokens {
    /// Opens text files, folders of text, and token files (`.bin`). Text is tokenised by the
    /// `tokenizer.json` given, or taken as bytes.
    ///
    /// # Errors
    /// Nothing there, a file that cannot be read, a tokenizer that cannot be used.
    pub fn open(paths: &[PathBuf], tokenizer: Option<&Path>) -> Result<Self> {
        let mut tokens = Self::default();
        let mut reader = Reader { path: tokenizer, tokenizer: None };
        for path in paths {
            for file in text::files(path)? {
                tokens.push(match file.extension() {
                    Some(extension) if extension == "bin" => Part::File(TokenFile::open(&file)?),
                    _ => reader.read(&file)?,
                });
            }
        }
        if tokens.len == 0 {
            let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            let what = match &paths[..] {
                [] => "is empty".to_owned(),
                paths => format!("there is no text in {}", paths.join(", ")),
            };
            return Err(Error::Data(format!("{what}; {text}", text = text::REMEDY)));
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
        let shorten = match self.len.saturating_sub(1) {
            0 => String::new(),
            most => format!("set it to at most {most}, or "),
        };
        let what = format!(
            "a context of {seq_len} is longer than the data, which has {} tokens; {shorten}name more data",
            self.len
        );
        Err(Error::setting(setting, what))
    }

    /// Checks that there are as many tokens as `data.tokens` says, if it says.
    ///
    /// # Errors
    /// There are more or fewer; the error says how to accept that.
    pub fn check_count(&self, expected: Option<usize>) -> Result<()> {
        match expected {
            Some(expected) if expected != self.len => {
                let what = format!(
                    "the data has {} tokens, and {expected} when the run began; restore the data, or accept what it is now with --set data.tokens={}",
                    self.len, self.len
                );
                Err(Error::setting("data.tokens", what))
            }
            _ => Ok(()),
        }
    }

    /// Checks that tokens are below `vocab_size`: all that are in memory, and the first of each
    /// mapped file, whose others are checked as they are used. Text taken as bytes needs 256.
    ///
    /// # Errors
    /// Some are not; the error says what would do.
    pub fn check_model(&self, vocab_size: usize) -> Result<()> {
        for part in &self.parts {
            match part {
                Part::Bytes(_) if vocab_size < BYTES => {
                    return Err(Error::Data(format!(
                        "text without a tokenizer is taken as bytes, of which there are {BYTES}, and the model's vocabulary has {vocab_size}; take a model.vocab_size of {BYTES} or more, or give a tokenizer or token files"
                    )));
                }
                Part::Bytes(_) => {}
                Part::Ids(ids) => Self::check_vocabulary(ids, vocab_size)?,
                Part::File(file) => {
                    let first: Vec<u32> =
                        (0..file.len().min(FIRST)).map(|index| file.get(index)).collect();
                    Self::check_vocabulary(&first, vocab_size)?;
                }
            }
        }
        Ok(())
    }

    /// Checks that every one of `ids` is below `vocab_size`.
    ///
    /// # Errors
    /// One is not: another tokenizer made the data.
    pub fn check_vocabulary(ids: &[u32], vocab_size: usize) -> Result<()> {
        match ids.iter().find(|&&id| id as usize >= vocab_size) {
            None => Ok(()),
            Some(id) => Err(Error::Data(format!(
                "token {id} is outside the model's vocabulary of {vocab_size}; name data that the model's tokenizer made, or raise model.vocab_size"
            ))),
        }
    }
}
