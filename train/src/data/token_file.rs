//! Files of tokens, memory-mapped: nanoGPT's (u16, no header) and llm.c's (header, then u16).

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::{Error, Result};

/// First word of an llm.c token file, whose header is 256 words of 32 bits.
const LLM_C_MAGIC: u32 = 20_240_520;
const LLM_C_HEADER: usize = 1024;

/// A mapped file of 16-bit tokens, little-endian.
#[derive(Debug)]
pub struct TokenFile {
    map: Mmap,
    start: usize,
    len: usize,
}

impl TokenFile {
    /// Maps the file.
    ///
    /// # Errors
    /// It cannot be read, or its size or header is not a token file's.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        // SAFETY: read-only and private to this process; that nobody shortens a training file under
        // a running job is asked of the user, as by every loader that maps its data.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
        let corrupt = |what: String| Error::Data(format!("{}: {what}", path.display()));
        let word = |index: usize| -> Option<u32> {
            map.get(4 * index..4 * index + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        };
        if word(0) != Some(LLM_C_MAGIC) {
            if !map.len().is_multiple_of(2) {
                return Err(corrupt(format!(
                    "{} bytes are not a whole number of 16-bit tokens",
                    map.len()
                )));
            }
            let len = map.len() / 2;
            return Ok(Self { map, start: 0, len });
        }
        let (version, count) = (word(1).unwrap_or(0), word(2).unwrap_or(0) as usize);
        if version != 1 {
            return Err(corrupt(format!(
                "llm.c token file of version {version}; only 1 (GPT-2, 16 bits) is read"
            )));
        }
        if map.len() != LLM_C_HEADER + 2 * count {
            let held = map.len().saturating_sub(LLM_C_HEADER) / 2;
            return Err(corrupt(format!(
                "the header promises {count} tokens, the file holds {held}"
            )));
        }
        Ok(Self { map, start: LLM_C_HEADER, len: count })
    }

    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Token `index`.
    ///
    /// # Panics
    /// There are not that many.
    pub fn get(&self, index: usize) -> u32 {
        assert!(index < self.len, "token {index} of {}", self.len);
        let at = self.start + 2 * index;
        u16::from_le_bytes([self.map[at], self.map[at + 1]]).into()
    }
}
