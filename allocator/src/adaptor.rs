//! Adaptors: what can be wrapped around any rank's memory, in any combination.

use std::panic::Location;
use std::ptr::NonNull;

use crate::{AllocError, Bytes, Phase, Region, UnitId};

/// What is about to be had: a block, or the slot of a unit that opens.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The bytes asked for.
    pub requested: u64,
    /// Bytes that would have to be committed for it; 0 if it fits into what is.
    pub growth: u64,
    /// Bytes committed now.
    pub reserved: u64,
}

/// A block as adaptors see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The region it lies in.
    pub region: Region,
    /// Its offset there, in bytes.
    pub offset: u64,
    /// Its bytes, aligned.
    pub bytes: u64,
    /// The bytes asked for.
    pub requested: u64,
    /// The operation that asked.
    pub op: &'static str,
    /// The layer it was made in.
    pub layer: Option<u32>,
    /// The unit it was made in.
    pub unit: Option<UnitId>,
    /// Whether it was made in a unit or a task whose plan did not foresee it.
    pub unplanned: bool,
}

/// Something that happened to a rank's memory.
pub enum Event<'a> {
    /// A block was placed.
    Allocated {
        /// The block.
        block: &'a Block,
        /// The Rust code that asked.
        location: &'static Location<'static>,
        /// The address of its first byte.
        memory: NonNull<u8>,
    },
    /// A block is about to be freed: by its own handle, or with its unit.
    Freed {
        /// The block.
        block: &'a Block,
        /// The address of its first byte.
        memory: NonNull<u8>,
    },
    /// There was no memory for a block or a unit's slot.
    Refused {
        /// The operation that asked.
        op: &'static str,
        /// The bytes it asked for.
        requested: u64,
        /// The Rust code that asked.
        location: &'static Location<'static>,
    },
    /// A unit was opened.
    UnitOpened(UnitId),
    /// A unit was closed; what it still held was freed just before.
    UnitClosed(UnitId),
    /// A unit's forward or backward begins.
    Phase(UnitId, Phase),
    /// It ends.
    PhaseEnded(UnitId, Phase),
    /// What a plan gives each unit of a chunk and slice in slots or K/V, from its opening to its end;
    /// slices beyond follow the last. For transient memory: the frame that all share.
    Planned {
        /// The chunk.
        chunk: u32,
        /// The slice.
        slice: u32,
        /// The region.
        region: Region,
        /// Bytes.
        bytes: u64,
    },
    /// A training step begins.
    Step(u64),
    /// A unit's blocks are in the second memory; they are freed just after.
    Offloaded(UnitId),
    /// A unit's blocks come back; they are placed just after.
    Restored(UnitId),
    /// A region now has this many committed bytes.
    Committed {
        /// The region.
        region: Region,
        /// Its committed bytes.
        bytes: u64,
    },
}

/// Something wrapped around a rank's memory: it may refuse allocations and sees all that happens.
///
/// It is called under the memory's lock, so it must not use that memory itself.
pub trait Adaptor: Send {
    /// Why the memory is refused, if it is. Asked once for every allocation and for the slot of every
    /// unit that opens.
    fn refuses(&mut self, ask: &Ask) -> Option<String> {
        let _ = ask;
        None
    }

    /// Sees an event, in the order they happen.
    fn event(&mut self, event: &Event<'_>) {
        let _ = event;
    }

    /// The byte with which fresh and freed memory is to be filled, if it is.
    fn fills(&self) -> Option<u8> {
        None
    }

    /// The budget it enforces, in bytes.
    fn limit(&self) -> Option<u64> {
        None
    }

    /// Writes out what it still holds.
    ///
    /// # Errors
    /// The file cannot be written.
    fn flush(&mut self) -> Result<(), AllocError> {
        Ok(())
    }
}

/// A budget on committed bytes: how a test on a laptop imitates a card.
pub struct Limit(pub Bytes);

impl Adaptor for Limit {
    fn refuses(&mut self, ask: &Ask) -> Option<String> {
        let over = ask.growth > 0 && ask.reserved.saturating_add(ask.growth) > self.0.0;
        over.then(|| format!("{} more would exceed the limit", Bytes(ask.growth)))
    }

    fn limit(&self) -> Option<u64> {
        Some(self.0.0)
    }
}

/// Makes one allocation (or opening of a unit with a slot) fail: the `n`-th from now; 1 is the next.
pub struct FailNth(pub u64);

impl Adaptor for FailNth {
    fn refuses(&mut self, _: &Ask) -> Option<String> {
        self.0 = self.0.checked_sub(1)?;
        (self.0 == 0).then(|| "made to fail by FailNth".to_owned())
    }
}

/// Fills fresh and freed memory with NaN (0xff bytes), so that reading too early or too late shows.
pub struct Poison;

impl Adaptor for Poison {
    fn fills(&self) -> Option<u8> {
        Some(0xff)
    }
}
