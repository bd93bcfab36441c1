//! Reading a log event by event.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use super::record::{HEADER, MAGIC, MAX_NAME, RECORD, Raw, kind, padded};
use super::{Logged, Name, NameId};
use crate::UnitId;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be read.
    #[error("byte {offset}: cannot read on: {source}")]
    Io {
        /// How far it could be read.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// Not a log.
    #[error("byte 0: not a memory event log, which begins with SLMEMEV")]
    Foreign,
    /// A log of another version.
    #[error(
        "byte 7: the log is of version {found}, and this slimpipe reads version 2; read it with the slimpipe that wrote it"
    )]
    Version {
        /// The version's digit.
        found: char,
    },
    /// A record that cannot be.
    #[error("byte {offset}: {what}; the log is damaged from there on")]
    Corrupt {
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
}

/// Streams a log: one event at a time, in memory that does not grow but by the names the log defines.
pub struct Reader<R> {
    from: BufReader<R>,
    rank: u32,
    began: u64,
    names: Vec<Name>,
    time: u64,
    /// Where the next record begins.
    next: u64,
    /// Where the last event's record began.
    last: u64,
    /// Who makes the blocks that follow.
    owner: Option<UnitId>,
    truncated: bool,
}

impl Reader<File> {
    /// Opens the log at `path`.
    ///
    /// # Errors
    /// As [`Reader::new`], or the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::new(File::open(path).map_err(|source| ReadError::Io { offset: 0, source })?)
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header of a log.
    ///
    /// # Errors
    /// Not a log, one of another version, or the file ends within its header.
    pub fn new(from: R) -> Result<Self, ReadError> {
        let mut from = BufReader::new(from);
        let mut head = [0; HEADER];
        let found =
            fill(&mut from, &mut head).map_err(|source| ReadError::Io { offset: 0, source })?;
        let digit = MAGIC.len() - 1;
        if head[..digit] != MAGIC[..digit] {
            return Err(ReadError::Foreign);
        }
        if found > digit && head[digit] != MAGIC[digit] {
            let found = char::from(head[digit]);
            return Err(match found.is_ascii_graphic() {
                true => ReadError::Version { found },
                false => ReadError::Foreign,
            });
        }
        if found < HEADER {
            let what = format!("the file ends within its header of {HEADER} bytes");
            return Err(ReadError::Corrupt { offset: found as u64, what });
        }
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| head[at + byte]));
        Ok(Self {
            from,
            rank: word(8),
            began: u64::from(word(20)) << 32 | u64::from(word(16)),
            names: Vec::new(),
            time: 0,
            next: HEADER as u64,
            last: HEADER as u64,
            owner: None,
            truncated: false,
        })
    }

    /// The rank whose log it is.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// When the log began, in nanoseconds since 1970: logs of several ranks are laid side by side by it.
    pub fn began(&self) -> u64 {
        self.began
    }

    /// The operation and call site of that number, which an event of this log named.
    pub fn name(&self, id: NameId) -> &Name {
        &self.names[id.index()]
    }

    /// All operations and call sites so far, by number.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// All operations and call sites, by number.
    pub fn into_names(self) -> Vec<Name> {
        self.names
    }

    /// Where in the file the last event's record began.
    pub fn offset(&self) -> u64 {
        self.last
    }

    /// Where the records that were read end.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// Whether the file ended within a record: the run was killed, or still writes. Known at the end.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// The next event; `None` at the end of the file, or where it was cut.
    ///
    /// # Errors
    /// A record that cannot be; the offset is named. Nothing behind it can be read.
    #[expect(
        clippy::should_implement_trait,
        reason = "an event is a Result of an Option, as `?` wants it"
    )]
    pub fn next(&mut self) -> Result<Option<Logged>, ReadError> {
        loop {
            let mut record = [0; RECORD];
            if !self.fill(&mut record)? {
                return Ok(None);
            }
            let raw: Raw = bytemuck::pod_read_unaligned(&record);
            self.last = self.next;
            self.next += RECORD as u64;
            self.time = self.time.saturating_add(u64::from(raw.elapsed));
            match raw.kind {
                kind::DEFINE => {
                    if !self.define(&raw)? {
                        return Ok(None);
                    }
                }
                kind::PAUSE => self.time = self.time.saturating_add(raw.address),
                kind::OWNER => self.owner = (raw.size != 0).then(|| raw.unit_id()),
                _ => {
                    let what = raw.decode(self.names.len(), self.owner);
                    let what = what.map_err(|what| self.corrupt(what))?;
                    match raw.kind {
                        kind::PHASE => self.owner = Some(raw.unit_id()),
                        kind::PHASE_END => self.owner = None,
                        _ => {}
                    }
                    return Ok(Some(Logged { time: self.time, what }));
                }
            }
        }
    }

    /// Reads the text of a name; false if the file is cut within it.
    fn define(&mut self, raw: &Raw) -> Result<bool, ReadError> {
        let size = raw.size as usize;
        if size > MAX_NAME || raw.name as usize != self.names.len() {
            let what = format!("name {} of {size} bytes is out of order or too long", raw.name);
            return Err(self.corrupt(what));
        }
        let mut text = [0; MAX_NAME];
        if !self.fill(&mut text[..padded(size)])? {
            (self.truncated, self.next) = (true, self.last);
            return Ok(false);
        }
        let text = std::str::from_utf8(&text[..size]);
        let text = text.map_err(|_| self.corrupt("a name is not UTF-8".to_owned()))?;
        let name = Name::new(text, raw.layer);
        let name = name.ok_or_else(|| self.corrupt("a name has no operation".to_owned()))?;
        self.names.push(name);
        self.next += padded(size) as u64;
        Ok(true)
    }

    fn corrupt(&self, what: String) -> ReadError {
        ReadError::Corrupt { offset: self.last, what }
    }

    /// Fills the buffer; false if the file ends before.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, ReadError> {
        let io = |source| ReadError::Io { offset: self.next, source };
        let found = fill(&mut self.from, buffer).map_err(io)?;
        self.truncated |= (1..buffer.len()).contains(&found);
        Ok(found == buffer.len())
    }
}

/// Reads until the buffer is full or the file ends; gives the bytes read.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match from.read(&mut buffer[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
