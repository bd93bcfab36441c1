//! Shared memory of one block.

use crate::fault::{FaultKind, Trouble};
use crate::memory::window::{RANK_SHIFT, SHARED_RESERVED};

/// What shared memory holds before it is written.
const POISON: u8 = 0xEE;

/// Bytes of a block, the reserved ones at the beginning included.
#[derive(Debug, Default)]
pub(super) struct Shared {
    bytes: Vec<u8>,
}

impl Shared {
    /// Begins a block's life with `bytes` bytes behind the reserved ones.
    pub(super) fn start(&mut self, bytes: u32) {
        self.bytes.clear();
        self.bytes.resize((SHARED_RESERVED + bytes) as usize, POISON);
    }

    /// All bytes, the reserved ones included.
    pub(super) fn bytes(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Where `bytes` bytes at an offset are.
    #[inline(always)]
    fn range(&self, offset: u32, bytes: usize) -> Result<std::ops::Range<usize>, Box<Trouble>> {
        let start = offset as usize;
        let end = start + bytes;
        match offset >= SHARED_RESERVED && end <= self.bytes.len() {
            true => Ok(start..end),
            false => Err(self.outside(offset, bytes)),
        }
    }

    #[cold]
    fn outside(&self, offset: u32, bytes: usize) -> Box<Trouble> {
        let what = format!(
            "shared memory: {bytes} bytes at {offset:#x} are outside the block's, which are \
             {SHARED_RESERVED:#x}..{:#x}",
            self.bytes.len()
        );
        Trouble::new(FaultKind::OutOfBounds, what)
    }

    #[inline(always)]
    pub(super) fn read(&self, offset: u32, bytes: usize) -> Result<&[u8], Box<Trouble>> {
        let range = self.range(offset, bytes)?;
        Ok(&self.bytes[range])
    }

    #[inline(always)]
    pub(super) fn write(&mut self, offset: u32, bytes: usize) -> Result<&mut [u8], Box<Trouble>> {
        let range = self.range(offset, bytes)?;
        Ok(&mut self.bytes[range])
    }
}

/// Splits a shared address into the block's rank in its cluster and the offset in its memory.
#[inline(always)]
pub(super) fn split(address: u32) -> (usize, u32) {
    ((address >> RANK_SHIFT) as usize, address & ((1 << RANK_SHIFT) - 1))
}
