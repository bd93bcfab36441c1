//! What threads of a cluster wrote to global memory that the async proxy cannot see yet.

use std::collections::HashMap;

use super::block::Block;

/// Bytes of a granule whose last writer is known.
const GRANULE: u64 = 16;
/// Granules of a page.
const PAGE: usize = 256;

/// A write: when, by which block of the cluster, by which thread.
#[derive(Clone, Copy, Default)]
struct Write {
    /// Zero if nobody wrote.
    time: u32,
    block: u16,
    thread: u16,
}

/// Remembers who wrote global memory by the generic proxy.
#[derive(Default)]
pub(super) struct GlobalWatch {
    active: bool,
    pages: HashMap<u64, Box<[Write; PAGE]>>,
}

/// A thread that wrote what the async proxy does not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Writer {
    pub block: usize,
    pub thread: u32,
}

impl GlobalWatch {
    /// Begins a cluster's life; `active` if something reads global memory by the async proxy.
    pub(super) fn start(&mut self, active: bool) {
        self.active = active;
        self.pages.clear();
    }

    /// Whether writes are remembered.
    #[inline(always)]
    pub(super) fn active(&self) -> bool {
        self.active
    }

    /// A thread wrote bytes.
    pub(super) fn wrote(&mut self, start: u64, bytes: usize, by: Writer, time: u32) {
        let write = Write { time, block: by.block as u16, thread: by.thread as u16 };
        for granule in start / GRANULE..(start + bytes as u64).div_ceil(GRANULE) {
            let (page, place) = (granule / PAGE as u64, granule as usize % PAGE);
            let page = self.pages.entry(page).or_insert_with(|| Box::new([Write::default(); PAGE]));
            page[place] = write;
        }
    }

    /// A thread whose write to these bytes the async proxy does not see when `reader` sends it.
    pub(super) fn unseen(
        &self,
        blocks: &[Block],
        start: u64,
        bytes: usize,
        reader: Writer,
    ) -> Option<Writer> {
        if self.pages.is_empty() {
            return None;
        }
        let end = (start + bytes as u64).div_ceil(GRANULE);
        let mut granule = start / GRANULE;
        while granule < end {
            let Some(page) = self.pages.get(&(granule / PAGE as u64)) else {
                granule = (granule / PAGE as u64 + 1) * PAGE as u64;
                continue;
            };
            let write = page[granule as usize % PAGE];
            granule += 1;
            if write.time == 0 {
                continue;
            }
            let writer = Writer { block: write.block.into(), thread: write.thread.into() };
            let fenced = |by: Writer| blocks[by.block].watch.global_fence(by.thread) > write.time;
            if !fenced(writer) && !fenced(reader) {
                return Some(writer);
            }
        }
        None
    }
}
