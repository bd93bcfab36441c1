//! The event log: a compact, append-only file of what happened to a rank's memory.
//!
//! The format is described in `docs/memory-events.md`. A file cut anywhere opens up to the cut;
//! hostile lengths are refused, never believed.

use std::io::{self, Read};

use crate::{Phase, Region, UnitId};

/// First bytes of every log.
pub(crate) const MAGIC: [u8; 8] = *b"SLMEMEV1";
/// Bytes of every record.
pub(crate) const RECORD: usize = 24;
/// Longest string a log may define.
const MAX_STRING: u32 = 4096;

pub(crate) mod kind {
    pub(crate) const DEFINE: u8 = 0;
    pub(crate) const ALLOC: u8 = 1;
    pub(crate) const FREE: u8 = 2;
    pub(crate) const UNIT_OPEN: u8 = 3;
    pub(crate) const UNIT_CLOSE: u8 = 4;
    pub(crate) const PHASE: u8 = 5;
    pub(crate) const COMMIT: u8 = 6;
}

/// One record, packed into 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Raw {
    pub kind: u8,
    pub region: u8,
    /// Layer plus one; 0 for none.
    pub layer: u16,
    /// Nanoseconds since the record before, saturating.
    pub elapsed: u32,
    pub address: u64,
    /// Blocks: lines of 64 bytes. Otherwise by kind.
    pub size: u32,
    /// A string's number, or by kind.
    pub name: u32,
}

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
        name: String,
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
    /// A region has this many committed bytes now.
    Committed {
        /// The region.
        region: Region,
        /// Its committed bytes.
        bytes: u64,
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
    /// Reads a log. A file cut within a record gives what is before the cut.
    ///
    /// # Errors
    /// Not a log, or a record that cannot be; the offset is named.
    pub fn read(mut from: impl Read) -> Result<Self, ReadError> {
        let mut head = [0u8; 16];
        from.read_exact(&mut head).map_err(|_| ReadError::Foreign)?;
        if head[..8] != MAGIC {
            return Err(ReadError::Foreign);
        }
        let rank = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let mut log = Self { rank, events: Vec::new(), truncated: false };
        let (mut names, mut at, mut time) = (Vec::new(), 16u64, 0u64);
        let mut buffer = [0u8; RECORD];
        loop {
            match fill(&mut from, &mut buffer)? {
                0 => return Ok(log),
                RECORD => {}
                _ => {
                    log.truncated = true;
                    return Ok(log);
                }
            }
            let raw: Raw = bytemuck::pod_read_unaligned(&buffer);
            at += RECORD as u64;
            let record_at = at - RECORD as u64;
            let corrupt = |what: String| ReadError::Corrupt { offset: record_at, what };
            if raw.kind == kind::DEFINE {
                if raw.size > MAX_STRING || raw.name as usize != names.len() {
                    return Err(corrupt(format!(
                        "string {} of {} bytes is out of order or too long",
                        raw.name, raw.size
                    )));
                }
                let mut text = vec![0u8; (raw.size as usize).next_multiple_of(8)];
                if fill(&mut from, &mut text)? != text.len() {
                    log.truncated = true;
                    return Ok(log);
                }
                at += text.len() as u64;
                text.truncate(raw.size as usize);
                names.push(
                    String::from_utf8(text)
                        .map_err(|_| corrupt("a name is not UTF-8".to_owned()))?,
                );
                continue;
            }
            time = time.saturating_add(u64::from(raw.elapsed));
            let what = decode(&raw, &names).map_err(corrupt)?;
            log.events.push(Logged { time, what });
        }
    }
}

/// Reads until the buffer is full or the file ends; gives the bytes read.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ReadError> {
    let mut read = 0;
    while read < buffer.len() {
        match from.read(&mut buffer[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

fn decode(raw: &Raw, names: &[String]) -> Result<What, String> {
    let region = || {
        Region::ALL
            .get(usize::from(raw.region))
            .copied()
            .ok_or_else(|| format!("there is no region {}", raw.region))
    };
    let unit = UnitId {
        microbatch: (raw.address >> 32) as u32,
        slice: raw.address as u32,
        chunk: u32::from(raw.layer),
    };
    let bytes = u64::from(raw.size) * 64;
    Ok(match raw.kind {
        kind::ALLOC => What::Alloc {
            region: region()?,
            offset: raw.address,
            bytes,
            layer: u32::from(raw.layer).checked_sub(1),
            name: names
                .get(raw.name as usize)
                .cloned()
                .ok_or_else(|| format!("name {} is not defined", raw.name))?,
        },
        kind::FREE => What::Free { region: region()?, offset: raw.address, bytes },
        kind::UNIT_OPEN => What::UnitOpened(unit),
        kind::UNIT_CLOSE => What::UnitClosed(unit),
        kind::PHASE => {
            What::Phase(unit, if raw.size == 0 { Phase::Forward } else { Phase::Backward })
        }
        kind::COMMIT => What::Committed { region: region()?, bytes: raw.address },
        other => return Err(format!("there is no record of kind {other}")),
    })
}
