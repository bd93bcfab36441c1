//! What a thread of the emulator sees of global memory.

use std::sync::Arc;

use super::allocation::Allocation;
use super::{Memory, MemoryError};

/// Addresses without a gap, on both sides.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
    host: *mut u8,
}

/// Finds host bytes of device addresses. Holds the allocations it found, so that they stay valid
/// while it is used; looks again when memory has changed.
pub(crate) struct View<'a> {
    memory: &'a Memory,
    generation: u64,
    held: Vec<Arc<Allocation>>,
    ranges: Vec<Range>,
    /// The range of the last access.
    last: Range,
}

const NOWHERE: Range = Range { start: 0, end: 0, host: std::ptr::null_mut() };

impl<'a> View<'a> {
    pub(crate) fn new(memory: &'a Memory) -> Self {
        let mut view =
            Self { memory, generation: 0, held: Vec::new(), ranges: Vec::new(), last: NOWHERE };
        view.refresh();
        view
    }

    fn refresh(&mut self) {
        self.generation = self.memory.generation();
        self.held = self.memory.live();
        self.ranges.clear();
        self.last = NOWHERE;
        for a in &self.held {
            match self.ranges.last_mut() {
                // Mappings side by side are one range.
                Some(r)
                    if !a.is_owned()
                        && r.end == a.address
                        && r.host.wrapping_add((r.end - r.start) as usize) == a.host =>
                {
                    r.end = a.end();
                }
                _ => self.ranges.push(Range { start: a.address, end: a.end(), host: a.host }),
            }
        }
    }

    /// Host bytes behind `bytes` bytes at `address`, valid until the next call.
    #[inline]
    pub(crate) fn locate(&mut self, address: u64, bytes: usize) -> Result<*mut u8, MemoryError> {
        if self.generation != self.memory.generation() {
            self.refresh();
        }
        let Range { start, end, host } = self.last;
        if address >= start && address < end && bytes as u64 <= end - address {
            return Ok(host.wrapping_add((address - start) as usize));
        }
        self.search(address, bytes)
    }

    #[cold]
    fn search(&mut self, address: u64, bytes: usize) -> Result<*mut u8, MemoryError> {
        let behind = self.ranges.partition_point(|r| r.start <= address);
        if let Some(&range) = behind.checked_sub(1).and_then(|i| self.ranges.get(i))
            && address < range.end
            && bytes as u64 <= range.end - address
        {
            self.last = range;
            return Ok(range.host.wrapping_add((address - range.start) as usize));
        }
        if bytes == 0 {
            return Ok(std::ptr::NonNull::dangling().as_ptr());
        }
        Err(self.memory.explain(address, bytes))
    }
}
