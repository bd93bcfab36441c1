//! A rank's address ranges, and the arenas that place blocks in them.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::Region;
use crate::arena::{BestFit, Cells, Frame};
use crate::plan::HELD;
use crate::source::{Range, Source, at};

/// Where everything lies.
pub(crate) struct Regions {
    source: Arc<dyn Source>,
    ranges: [Option<Box<dyn Range>>; Region::COUNT],
    /// In the order of `HELD`.
    pub cells: [Cells; HELD.len()],
    pub transient: Frame,
    persistent: BestFit,
    kv_grad: BestFit,
    comm: BestFit,
    overflow: BestFit,
}

impl Regions {
    /// Empty regions, to be filled from `source`.
    pub(crate) fn new(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            ranges: Default::default(),
            cells: Default::default(),
            transient: Frame::default(),
            persistent: BestFit::default(),
            kv_grad: BestFit::default(),
            comm: BestFit::default(),
            overflow: BestFit::default(),
        }
    }

    /// Where the bytes come from.
    pub(crate) fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// The arena of one of the regions in which places are searched.
    pub(crate) fn searched(&mut self, region: Region) -> Option<&mut BestFit> {
        match region {
            Region::Persistent => Some(&mut self.persistent),
            Region::KvGrad => Some(&mut self.kv_grad),
            Region::Comm => Some(&mut self.comm),
            Region::Overflow => Some(&mut self.overflow),
            Region::Slot | Region::Kv | Region::Transient => None,
        }
    }

    pub(crate) fn committed(&self, region: Region) -> u64 {
        self.ranges[region.index()].as_ref().map_or(0, |range| range.committed())
    }

    /// Bytes that have to be committed for `region` to reach `end`.
    pub(crate) fn growth(&self, region: Region, end: u64) -> u64 {
        end.next_multiple_of(self.source.granule()).saturating_sub(self.committed(region))
    }

    pub(crate) fn commit(&mut self, region: Region, end: u64) -> io::Result<()> {
        let range = match &mut self.ranges[region.index()] {
            Some(range) => range,
            none => none.insert(self.source.reserve()?),
        };
        range.commit(end)
    }

    /// The address of byte `offset` of a region that is committed up to there.
    pub(crate) fn at(&self, region: Region, offset: u64) -> NonNull<u8> {
        let range = self.ranges[region.index()].as_ref();
        at(range.expect("blocks are placed in committed ranges only").as_ref(), offset)
    }

    /// Gives the pages that nothing in `region` needs back to the system, except the first `keep`
    /// bytes. Cells count as needed, whether taken or free.
    pub(crate) fn release(&mut self, region: Region, keep: u64) {
        let [slots, kv] = &self.cells;
        let needed = match region {
            Region::Slot => slots.end(),
            Region::Kv => kv.end(),
            Region::Transient => self.transient.end(),
            Region::Persistent | Region::KvGrad | Region::Comm | Region::Overflow => {
                self.searched(region).map_or(0, |arena| {
                    arena.trim();
                    arena.end()
                })
            }
        };
        if let Some(range) = &mut self.ranges[region.index()] {
            range.release(needed.max(keep));
        }
    }

    /// The largest block that can be had without committing more.
    pub(crate) fn largest_free(&self) -> u64 {
        let searched = [&self.persistent, &self.kv_grad, &self.comm, &self.overflow];
        let searched = searched.map(BestFit::largest_free);
        let cells = self.cells.each_ref().map(Cells::largest_free);
        searched.into_iter().chain(cells).max().unwrap_or(0)
    }
}
