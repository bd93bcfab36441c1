//! Ownership of bytes.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::memory::{Inner, is_fallback};
use crate::plan::Record;
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::{AllocError, Region, UnitId};

/// A unit as its allocations see it: who it is and whether it is still open.
pub(crate) struct UnitState {
    pub id: UnitId,
    /// Its place in the table of open units.
    pub key: UnitKey,
    closed: AtomicBool,
}

/// A place in the table of open units, and which of the units that had the place in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnitKey {
    pub index: u32,
    pub generation: u32,
}

impl UnitState {
    pub(crate) fn new(id: UnitId, key: UnitKey) -> Self {
        Self { id, key, closed: AtomicBool::new(false) }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// Where an allocation's bytes come from.
pub(crate) struct Block {
    pub memory: Arc<Inner>,
    /// Position in the table of live blocks.
    pub index: usize,
    /// The unit that owns the bytes, if one does.
    pub unit: Option<Arc<UnitState>>,
}

/// Bytes with an owner; dropping it frees them, from any thread.
pub struct Allocation {
    pub(crate) bytes: u64,
    pub(crate) region: Region,
    pub(crate) pointer: Option<NonNull<u8>>,
    pub(crate) block: Option<Block>,
    pub(crate) recorded: Option<(Arc<Mutex<Record>>, usize)>,
}

// SAFETY: the pointer is to memory that the allocation owns and keeps alive through `block`; access
// to the bytes is the business of whoever holds the allocation.
unsafe impl Send for Allocation {}
// SAFETY: as above; the allocation itself offers no interior mutability.
unsafe impl Sync for Allocation {}

impl std::fmt::Debug for Allocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Allocation({} bytes, {})", self.bytes, self.region)
    }
}

impl Allocation {
    /// Bytes asked for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The region the bytes lie in.
    pub fn region(&self) -> Region {
        self.region
    }

    /// The rank whose memory this is; `None` for allocations that have only a size, or were made
    /// on a thread that had entered no memory.
    pub fn rank(&self) -> Option<u32> {
        let block = self.block.as_ref().filter(|block| !is_fallback(&block.memory))?;
        Some(block.memory.rank())
    }

    /// The first byte, aligned to 64; `None` for allocations that have only a size.
    pub fn as_ptr(&self) -> Option<NonNull<u8>> {
        self.pointer
    }

    /// Fails if the unit that owns the bytes was closed; `op` is who wants to use them.
    ///
    /// # Errors
    /// [`AllocError::EscapedUnit`].
    #[inline]
    pub fn check(&self, op: &'static str) -> Result<(), AllocError> {
        match self.block.as_ref().and_then(|block| block.unit.as_ref()) {
            Some(unit) if unit.is_closed() => Err(AllocError::EscapedUnit { op, unit: unit.id }),
            _ => Ok(()),
        }
    }

    pub(crate) fn recorded_index(&self) -> Option<usize> {
        self.recorded.as_ref().map(|(_, index)| *index)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Some((record, index)) = self.recorded.take() {
            record.lock().free(index);
        }
        if let Some(Block { memory, index, .. }) = self.block.take() {
            memory.free(index);
        }
    }
}
