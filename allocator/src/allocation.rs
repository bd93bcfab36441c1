//! Ownership of bytes.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32};

use crate::memory::Inner;
use crate::plan::Record;
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::{AllocError, Region, UnitId};

/// A unit as its allocations see it: who it is and whether it is still open.
pub(crate) struct UnitState {
    pub id: UnitId,
    /// Its place in the table of open units.
    pub key: UnitKey,
    closed: AtomicBool,
    /// By number of the slot's cells, if some of it may travel; else none.
    places: Box<[Place]>,
}

/// Where the block in a cell is now.
#[derive(Default)]
struct Place {
    /// Null while it is away.
    address: AtomicPtr<u8>,
    /// How many keep it there.
    pins: AtomicU32,
}

/// A place in the table of open units, and which of the units that had the place in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnitKey {
    pub index: u32,
    pub generation: u32,
}

impl UnitState {
    /// A unit of whose slot `cells` cells may travel.
    pub(crate) fn new(id: UnitId, key: UnitKey, cells: usize) -> Self {
        let places = (0..cells).map(|_| Place::default()).collect();
        Self { id, key, closed: AtomicBool::new(false), places }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether addresses in the slot have to be looked up.
    pub(crate) fn travels(&self) -> bool {
        !self.places.is_empty()
    }

    /// Says where the block in cell `number` is; none while it is away.
    pub(crate) fn show(&self, number: usize, address: Option<NonNull<u8>>) {
        if let Some(place) = self.places.get(number) {
            let address = address.map_or(std::ptr::null_mut(), NonNull::as_ptr);
            place.address.store(address, Ordering::Release);
        }
    }

    fn address(&self, number: usize) -> Option<NonNull<u8>> {
        NonNull::new(self.places.get(number)?.address.load(Ordering::Acquire))
    }

    pub(crate) fn is_pinned(&self, number: usize) -> bool {
        self.places.get(number).is_some_and(|place| place.pins.load(Ordering::Acquire) > 0)
    }
}

/// Where an allocation's bytes come from.
pub(crate) struct Block {
    pub memory: Arc<Inner>,
    /// Position in the table of live blocks.
    pub index: usize,
    /// The unit that owns the bytes, if one does.
    pub unit: Option<Arc<UnitState>>,
    /// The cell whose address the unit knows, if it may travel.
    pub cell: Option<usize>,
}

impl Block {
    /// The unit and the cell by which the address is known, if it may change.
    fn travels(&self) -> Option<(&UnitState, usize)> {
        Some((self.unit.as_deref()?, self.cell?))
    }
}

/// Keeps bytes where they are while it lives, although their unit goes to a second memory.
#[must_use = "the bytes stay only while the guard lives"]
pub struct Pin(Option<(Arc<UnitState>, usize)>);

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some((unit, cell)) = &self.0 {
            unit.places[*cell].pins.fetch_sub(1, Ordering::AcqRel);
        }
    }
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
        self.block.as_ref()?.memory.rank()
    }

    /// The address of the first byte, aligned to 64; `None` for allocations that have only a size, or are
    /// away in a second memory. It is good until the unit moves. Memory of a device is not to be followed
    /// here.
    pub fn as_ptr(&self) -> Option<NonNull<u8>> {
        match self.block.as_ref().and_then(Block::travels) {
            Some((unit, cell)) => unit.address(cell),
            None => self.pointer,
        }
    }

    /// Fails if the unit that owns the bytes was closed, or they are away in a second memory; `op` is who
    /// wants to use them.
    ///
    /// # Errors
    /// [`AllocError::EscapedUnit`], [`AllocError::Away`].
    #[inline]
    pub fn check(&self, op: &'static str) -> Result<(), AllocError> {
        let Some(block) = &self.block else { return Ok(()) };
        match &block.unit {
            Some(unit) if unit.is_closed() => Err(AllocError::EscapedUnit { op, unit: unit.id }),
            Some(unit) if block.cell.is_some_and(|cell| unit.address(cell).is_none()) => {
                Err(AllocError::Away { op, unit: unit.id })
            }
            _ => Ok(()),
        }
    }

    /// Keeps the bytes where they are while the guard lives: another rank may read them meanwhile.
    pub fn pin(&self) -> Pin {
        let place = self.block.as_ref().and_then(Block::travels);
        let place = place.and_then(|(_, cell)| Some((self.block.as_ref()?.unit.clone()?, cell)));
        if let Some((unit, cell)) = &place {
            unit.places[*cell].pins.fetch_add(1, Ordering::AcqRel);
        }
        Pin(place)
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
