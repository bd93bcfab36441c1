//! The bytes of a log, as `docs/memory-events.md` describes them.

use super::{Block, NameId, What};
use crate::{Phase, Region, UnitId};

/// First bytes of every log; the last of them tells the version.
pub(crate) const MAGIC: [u8; 8] = *b"SLMEMEV2";
/// Bytes before the first record.
pub(crate) const HEADER: usize = 24;
/// Bytes of every record.
pub(crate) const RECORD: usize = size_of::<Raw>();
/// Longest name a log may define.
pub(crate) const MAX_NAME: usize = 512;
/// What sizes of blocks are counted in.
pub(crate) const LINE: u64 = 64;
/// More bytes than a region can have: readers may add up a few regions without a second look, and
/// numbers stay exact as floats.
pub(crate) const LONGEST: u64 = 1 << 48;
/// Added to the region of a block that no plan foresaw.
pub(crate) const UNPLANNED: u8 = 0x80;

// Records are written and read as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"), "memory logs are little-endian");

pub(crate) mod kind {
    pub(crate) const DEFINE: u8 = 0;
    pub(crate) const ALLOC: u8 = 1;
    pub(crate) const FREE: u8 = 2;
    pub(crate) const UNIT_OPEN: u8 = 3;
    pub(crate) const UNIT_CLOSE: u8 = 4;
    pub(crate) const PHASE: u8 = 5;
    pub(crate) const COMMIT: u8 = 6;
    pub(crate) const REFUSED: u8 = 7;
    pub(crate) const PAUSE: u8 = 8;
    pub(crate) const OFFLOADED: u8 = 9;
    pub(crate) const RESTORED: u8 = 10;
    pub(crate) const PHASE_END: u8 = 11;
    pub(crate) const OWNER: u8 = 12;
    pub(crate) const PLAN: u8 = 13;
    pub(crate) const STEP: u8 = 14;
}

/// The header of the log of `rank` that began `began` nanoseconds after 1970.
pub(crate) fn header(rank: u32, began: u64) -> [u8; HEADER] {
    let mut head = [0; HEADER];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&rank.to_le_bytes());
    head[16..].copy_from_slice(&began.to_le_bytes());
    head
}

/// One record, packed into 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Raw {
    pub kind: u8,
    pub region: u8,
    /// Layer plus one; 0 for none. Names: bytes of the operation.
    pub layer: u16,
    /// Nanoseconds since the record before.
    pub elapsed: u32,
    /// Offsets, sizes and units, by kind.
    pub address: u64,
    /// Blocks: in lines. Otherwise by kind.
    pub size: u32,
    /// A name's number, or a chunk.
    pub name: u32,
}

impl Raw {
    pub(crate) fn unit(kind: u8, unit: UnitId) -> Self {
        let address = u64::from(unit.microbatch) << 32 | u64::from(unit.slice);
        Self { kind, address, name: unit.chunk, ..Self::default() }
    }

    pub(crate) fn phase(kind: u8, unit: UnitId, phase: Phase) -> Self {
        Self { size: phase as u32, ..Self::unit(kind, unit) }
    }

    /// The owner of the blocks that follow.
    pub(crate) fn owner(unit: Option<UnitId>) -> Self {
        let none = Self { kind: kind::OWNER, ..Self::default() };
        unit.map_or(none, |unit| Self { size: 1, ..Self::unit(kind::OWNER, unit) })
    }

    /// Where a block is: its region, offset, bytes, and the bytes asked for.
    pub(crate) fn block(kind: u8, place: (Region, u64, u64, u64)) -> Self {
        let (region, offset, bytes, requested) = place;
        let address = offset | (bytes - requested).min(LINE - 1);
        let (region, size) = (region as u8, (bytes / LINE) as u32);
        Self { kind, region, address, size, ..Self::default() }
    }

    pub(super) fn unit_id(&self) -> UnitId {
        let (microbatch, slice) = ((self.address >> 32) as u32, self.address as u32);
        UnitId { microbatch, slice, chunk: self.name }
    }

    /// What the record says, or why it cannot be. `names` is how many there are so far, and `unit`
    /// who makes blocks.
    pub(super) fn decode(&self, names: usize, unit: Option<UnitId>) -> Result<What, String> {
        let region = || {
            let number = self.region & !UNPLANNED;
            let region = Region::ALL.get(usize::from(number)).copied();
            region.ok_or_else(|| format!("there is no region {number}"))
        };
        let name = || match (self.name as usize) < names {
            true => Ok(NameId(self.name)),
            false => Err(format!("name {} is not defined", self.name)),
        };
        let phase = || match self.size {
            0 => Ok(Phase::Forward),
            1 => Ok(Phase::Backward),
            2 => Ok(Phase::Weight),
            other => Err(format!("there is no phase {other}")),
        };
        let possible = |bytes: u64| match bytes <= LONGEST {
            true => Ok(bytes),
            false => Err(format!("no region has {bytes} bytes")),
        };
        let place = || {
            let (offset, bytes) = (self.address & !(LINE - 1), u64::from(self.size) * LINE);
            possible(offset.saturating_add(bytes))?;
            if bytes == 0 { Err("a block has no bytes".to_owned()) } else { Ok((offset, bytes)) }
        };
        Ok(match self.kind {
            kind::ALLOC => {
                let (offset, bytes) = place()?;
                What::Alloc(Block {
                    region: region()?,
                    offset,
                    bytes,
                    requested: bytes - self.address % LINE,
                    unit,
                    layer: u32::from(self.layer).checked_sub(1),
                    name: name()?,
                    unplanned: self.region & UNPLANNED != 0,
                })
            }
            kind::FREE => {
                let (offset, bytes) = place()?;
                What::Free { region: region()?, offset, bytes }
            }
            kind::UNIT_OPEN => What::UnitOpened(self.unit_id()),
            kind::UNIT_CLOSE => What::UnitClosed(self.unit_id()),
            kind::OFFLOADED => What::Offloaded(self.unit_id()),
            kind::RESTORED => What::Restored(self.unit_id()),
            kind::PHASE => What::Phase(self.unit_id(), phase()?),
            kind::PHASE_END => What::PhaseEnded(self.unit_id(), phase()?),
            kind::COMMIT => What::Committed { region: region()?, bytes: possible(self.address)? },
            kind::REFUSED => What::Refused { bytes: self.address, name: name()? },
            kind::PLAN => What::Planned {
                chunk: self.name,
                slice: self.size,
                region: region()?,
                bytes: possible(self.address)?,
            },
            kind::STEP => What::Step(self.address),
            other => return Err(format!("there is no record of kind {other}")),
        })
    }
}

/// Bytes that a name's text takes: records stay aligned.
pub(crate) fn padded(text: usize) -> usize {
    text.next_multiple_of(8)
}
