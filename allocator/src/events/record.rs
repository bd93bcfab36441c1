//! The bytes of a log, as `docs/memory-events.md` describes them.

use std::sync::Arc;

use super::What;
use crate::{Phase, Region, UnitId};

/// First bytes of every log.
pub(crate) const MAGIC: [u8; 8] = *b"SLMEMEV1";
/// Bytes before the first record: the magic, the rank, and four zeros.
pub(crate) const HEADER: usize = 16;
/// Bytes of every record.
pub(crate) const RECORD: usize = size_of::<Raw>();
/// Longest name a log may define.
pub(crate) const MAX_NAME: usize = 512;
/// What sizes of blocks are counted in.
pub(crate) const LINE: u64 = 64;

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
}

/// One record, packed into 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Raw {
    pub kind: u8,
    pub region: u8,
    /// Layer plus one; 0 for none.
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

    /// What the record says, or why it cannot be.
    pub(super) fn decode(&self, names: &[Arc<str>]) -> Result<What, String> {
        let region = || {
            let region = Region::ALL.get(usize::from(self.region)).copied();
            region.ok_or_else(|| format!("there is no region {}", self.region))
        };
        let name = || {
            let name = names.get(self.name as usize).cloned();
            name.ok_or_else(|| format!("name {} is not defined", self.name))
        };
        let unit = UnitId {
            microbatch: (self.address >> 32) as u32,
            slice: self.address as u32,
            chunk: self.name,
        };
        let (offset, bytes) = (self.address, u64::from(self.size) * LINE);
        Ok(match self.kind {
            kind::ALLOC => {
                let layer = u32::from(self.layer).checked_sub(1);
                What::Alloc { region: region()?, offset, bytes, layer, name: name()? }
            }
            kind::FREE => What::Free { region: region()?, offset, bytes },
            kind::UNIT_OPEN => What::UnitOpened(unit),
            kind::UNIT_CLOSE => What::UnitClosed(unit),
            kind::OFFLOADED => What::Offloaded(unit),
            kind::RESTORED => What::Restored(unit),
            kind::PHASE => match self.size {
                0 => What::Phase(unit, Phase::Forward),
                1 => What::Phase(unit, Phase::Backward),
                2 => What::Phase(unit, Phase::Weight),
                other => return Err(format!("there is no phase {other}")),
            },
            kind::COMMIT => What::Committed { region: region()?, bytes: self.address },
            kind::REFUSED => What::Refused { bytes: self.address, name: name()? },
            other => return Err(format!("there is no record of kind {other}")),
        })
    }
}
