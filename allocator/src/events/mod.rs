//! The event log: a compact, append-only file of what happened to a rank's memory.
//!
//! The format is described in `docs/memory-events.md`. A file cut anywhere opens up to the cut;
//! lengths in it are never believed beyond a small bound.

use std::io::{self, BufReader, ErrorKind, Read};
use std::sync::Arc;

use crate::{Phase, Region, UnitId};

mod record;

pub(crate) use record::{HEADER, LINE, MAGIC, MAX_NAME, RECORD, Raw, kind};

/// A logged event, with its time in nanoseconds since the log began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Nanoseconds since the log began.
    pub time: u64,
    /// What happened.
    pub what: What,
}

/// What a log says happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A block was placed.
    Alloc {
        /// The region.
        region: Region,
        /// Offset in the region, in bytes.
        offset: u64,
        /// Aligned bytes.
        bytes: u64,
        /// The layer, if it was made in one.
        layer: Option<u32>,
        /// Operation and call site, as `op file:line`.
        name: Arc<str>,
    },
    /// A block was freed, by its own handle or with its unit.
    Free {
        /// The region.
        region: Region,
        /// Offset in the region, in bytes.
        offset: u64,
        /// Aligned bytes.
        bytes: u64,
    },
    /// A unit was opened.
    UnitOpened(UnitId),
    /// A unit was closed; what it still held was freed just before.
    UnitClosed(UnitId),
    /// A unit's forward or backward begins.
    Phase(UnitId, Phase),
    /// A unit's blocks are in the second memory; they are freed just after.
    Offloaded(UnitId),
    /// A unit's blocks come back; they are placed just after.
    Restored(UnitId),
    /// A region has this many committed bytes now.
    Committed {
        /// The region.
        region: Region,
        /// Its committed bytes.
        bytes: u64,
    },
    /// There was no memory for a block or a unit's slot.
    Refused {
        /// The bytes asked for.
        bytes: u64,
        /// Operation and call site, as `op file:line`.
        name: Arc<str>,
    },
}

/// A log that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The rank.
    pub rank: u32,
    /// Its events, in order.
    pub events: Vec<Logged>,
    /// Whether the file ended within a record.
    pub truncated: bool,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be read.
    #[error("cannot read the memory trace: {0}")]
    Io(#[from] io::Error),
    /// Not a log, or of another version.
    #[error("not a memory trace of version 1: it should begin with SLMEMEV1")]
    Foreign,
    /// A record that cannot be.
    #[error("memory trace: byte {offset}: {what}")]
    Corrupt {
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
}

impl Log {
    /// Reads a log. A file cut behind its header gives what is before the cut.
    ///
    /// # Errors
    /// Not a log, or a record that cannot be; the offset is named.
    pub fn read(from: impl Read) -> Result<Self, ReadError> {
        let mut from = BufReader::new(from);
        let mut head = [0; HEADER];
        let found = fill(&mut from, &mut head)?;
        if head[..MAGIC.len()] != MAGIC {
            return Err(ReadError::Foreign);
        }
        if found < HEADER {
            let what = format!("the file ends within its header of {HEADER} bytes");
            return Err(ReadError::Corrupt { offset: found as u64, what });
        }
        let rank = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let mut log = Self { rank, events: Vec::new(), truncated: false };
        let (mut names, mut time): (Vec<Arc<str>>, u64) = (Vec::new(), 0);
        let mut offset = HEADER as u64;
        let mut record = [0; RECORD];
        loop {
            match fill(&mut from, &mut record)? {
                RECORD => {}
                cut => {
                    log.truncated = cut > 0;
                    return Ok(log);
                }
            }
            let raw: Raw = bytemuck::pod_read_unaligned(&record);
            let corrupt = |what: String| ReadError::Corrupt { offset, what };
            let mut text = 0;
            time = time.saturating_add(u64::from(raw.elapsed));
            match raw.kind {
                kind::DEFINE => {
                    if raw.size as usize > MAX_NAME || raw.name as usize != names.len() {
                        return Err(corrupt(format!(
                            "name {} of {} bytes is out of order or too long",
                            raw.name, raw.size
                        )));
                    }
                    let mut buffer = [0; MAX_NAME];
                    text = padded(raw.size as usize);
                    if fill(&mut from, &mut buffer[..text])? != text {
                        log.truncated = true;
                        return Ok(log);
                    }
                    let name = std::str::from_utf8(&buffer[..raw.size as usize])
                        .map_err(|_| corrupt("a name is not UTF-8".to_owned()))?;
                    names.push(name.into());
                }
                kind::PAUSE => time = time.saturating_add(raw.address),
                _ => {
                    let what = raw.decode(&names).map_err(corrupt)?;
                    log.events.push(Logged { time, what });
                }
            }
            offset += (RECORD + text) as u64;
        }
    }
}

/// Bytes that a name takes: records stay aligned.
pub(crate) fn padded(name: usize) -> usize {
    name.next_multiple_of(8)
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
