//! Placement and accounting of one rank's memory: everything behind its lock.

mod offload;
mod report;
mod units;

use std::io;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::adaptor::{Adaptor, Ask, Block, Event};
use crate::allocation::{UnitKey, UnitState};
use crate::arena::{ALIGN, align};
use crate::offload::Offload;
use crate::plan::{HELD, Planned, SLOT};
use crate::regions::Regions;
use crate::source::{RANGE, Source};
use crate::{AllocError, Bytes, MemoryStats, Region, UnitPlan};

use units::Units;

/// The largest block: the lines of any block can be counted in 32 bits, as event logs do.
const LARGEST: u64 = RANGE - ALIGN;

/// What is asked for, with everything the scope knows about it.
pub(crate) struct Request<'a> {
    pub bytes: u64,
    pub op: &'static str,
    pub location: &'static Location<'static>,
    pub layer: Option<u32>,
    pub place: Option<Region>,
    pub unit: Option<&'a Arc<UnitState>>,
    /// Where the plan puts it, if it knows it.
    pub planned: Option<Planned>,
    /// Whether it is made in a phase of a unit or in a task, where plans foresee everything.
    pub in_phase: bool,
}

/// The cell in which a block lies.
#[derive(Clone, Copy)]
struct Holder {
    unit: UnitKey,
    /// Position of the cell's region in `HELD`.
    held: usize,
    number: usize,
}

/// A block that was handed out.
struct Live {
    block: Block,
    owner: Option<Holder>,
    location: &'static Location<'static>,
}

/// What [`State::allocate`] gives.
pub(crate) struct Placed {
    /// The block's number.
    pub number: usize,
    pub region: Region,
    pub address: NonNull<u8>,
    /// The number of the slot's cell in which it lies, if that may travel.
    pub cell: Option<usize>,
}

/// A place that was found but not taken.
enum Spot {
    /// A cell that the unit holds.
    Cell(Holder),
    /// In the transient frame.
    Frame { offset: u64 },
    /// Wherever the region has room.
    Searched(Region),
}

pub(crate) struct State {
    rank: u32,
    strict: bool,
    regions: Regions,
    /// By chunk, then by slice; slices beyond follow the last.
    plans: Vec<Vec<Arc<UnitPlan>>>,
    tasks: Vec<Arc<UnitPlan>>,
    units: Units,
    blocks: Vec<Option<Live>>,
    free_blocks: Vec<usize>,
    stats: MemoryStats,
    adaptors: Vec<Box<dyn Adaptor>>,
    /// With what fresh and freed memory is filled, if it is.
    fill: Option<u8>,
    offload: Option<Offload>,
}

impl State {
    pub(crate) fn new(
        rank: u32,
        strict: bool,
        source: Arc<dyn Source>,
        adaptors: Vec<Box<dyn Adaptor>>,
        offload: Option<Offload>,
    ) -> Self {
        Self {
            rank,
            strict,
            regions: Regions::new(source),
            plans: Vec::new(),
            tasks: Vec::new(),
            units: Units::default(),
            blocks: Vec::new(),
            free_blocks: Vec::new(),
            stats: MemoryStats::default(),
            fill: adaptors.iter().find_map(|adaptor| adaptor.fills()),
            adaptors,
            offload,
        }
    }

    /// Places a block. A failure changes nothing.
    pub(crate) fn allocate(&mut self, request: &Request<'_>) -> Result<Placed, AllocError> {
        if request.bytes > LARGEST {
            return Err(self.out_of_memory(request, "no address range is that long".to_owned()));
        }
        let bytes = align(request.bytes);
        let spot = self.find(request, bytes)?;
        let (region, offset, owner) = match spot {
            Spot::Cell(holder) => (HELD[holder.held], self.cell(request, holder)?, Some(holder)),
            Spot::Frame { offset } => {
                self.admit(request, |regions| [(Region::Transient, regions.transient.extent())])?;
                self.regions.transient.take(offset, bytes);
                (Region::Transient, offset, None)
            }
            Spot::Searched(region) => (region, self.search(region, request, bytes)?, None),
        };
        let Request { op, layer, bytes: requested, location, .. } = *request;
        let unit = request.unit.map(|unit| unit.id);
        let unplanned = region == Region::Overflow && request.in_phase;
        self.stats.overflow_hits += u64::from(unplanned);
        let block = Block { region, offset, bytes, requested, op, layer, unit, unplanned };
        let number = self.free_blocks.pop().unwrap_or_else(|| {
            self.blocks.push(None);
            self.blocks.len() - 1
        });
        self.count(&block, owner, number);
        let address = self.regions.at(region, offset);
        if !self.adaptors.is_empty() {
            self.tell(&Event::Allocated { block: &block, location, memory: address });
        }
        self.blocks[number] = Some(Live { block, owner, location });
        let slot = owner.filter(|holder| holder.held == SLOT).zip(request.unit);
        let cell = slot.filter(|(_, unit)| unit.travels()).map(|(holder, unit)| {
            unit.show(holder.number, Some(address));
            holder.number
        });
        Ok(Placed { number, region, address, cell })
    }

    /// Finds a place: the plan's if it holds, the hinted region, or the overflow region.
    fn find(&mut self, request: &Request<'_>, bytes: u64) -> Result<Spot, AllocError> {
        let Request { op, layer, .. } = *request;
        let find = |state: &Arc<UnitState>| {
            let closed = AllocError::UnitClosed { op, unit: state.id };
            Ok((state.key, self.units.get(state.key).ok_or(closed)?))
        };
        let unit = request.unit.map(find).transpose()?;
        match (request.planned, unit) {
            // It is filled if what should have died before did not.
            (Some(Planned::Cell { held, number }), Some((unit, open)))
                if open.cells[held][number].filled.is_none() =>
            {
                return Ok(Spot::Cell(Holder { unit, held, number }));
            }
            (Some(Planned::Transient { offset }), _)
                if self.regions.transient.is_free(offset, bytes) =>
            {
                return Ok(Spot::Frame { offset });
            }
            (Some(Planned::Comm), _) => return Ok(Spot::Searched(Region::Comm)),
            _ => {}
        }
        match request.place.filter(|place| place.is_for_callers()) {
            Some(region) => Ok(Spot::Searched(region)),
            None if self.strict && request.in_phase => {
                let (bytes, unit) = (Bytes(request.bytes), request.unit.map(|unit| unit.id));
                Err(AllocError::NotPlanned { op, bytes, unit, layer })
            }
            None => Ok(Spot::Searched(Region::Overflow)),
        }
    }

    fn search(
        &mut self,
        region: Region,
        request: &Request<'_>,
        bytes: u64,
    ) -> Result<u64, AllocError> {
        self.admit(request, |regions| {
            [(region, regions.searched(region).map_or(0, |arena| arena.end_with(bytes)))]
        })?;
        Ok(self.regions.searched(region).map_or(0, |arena| arena.take(bytes)))
    }

    /// Commits regions up to the ends that are needed, if the adaptors and the system agree. Memory
    /// that stands idle may be released for it, and other ends needed then.
    fn admit<const N: usize>(
        &mut self,
        request: &Request<'_>,
        needed: impl Fn(&mut Regions) -> [(Region, u64); N],
    ) -> Result<(), AllocError> {
        let mut ends = needed(&mut self.regions);
        let missing = |regions: &Regions, ends: &[(Region, u64); N]| -> u64 {
            ends.iter().map(|&(region, end)| regions.growth(region, end)).sum()
        };
        let mut growth = missing(&self.regions, &ends);
        if growth == 0 && self.adaptors.is_empty() {
            return Ok(());
        }
        let limit = self.limit().unwrap_or(u64::MAX);
        if self.stats.total.reserved.current.saturating_add(growth) > limit {
            self.release();
            ends = needed(&mut self.regions);
            growth = missing(&self.regions, &ends);
        }
        let reserved = self.stats.total.reserved.current;
        let ask = Ask { requested: request.bytes, growth, reserved };
        if let Some(cause) = self.adaptors.iter_mut().find_map(|adaptor| adaptor.refuses(&ask)) {
            return Err(self.out_of_memory(request, cause));
        }
        let mut committed = self.commit(&ends);
        if committed.is_err() {
            self.release();
            ends = needed(&mut self.regions);
            committed = self.commit(&ends);
        }
        committed.map_err(|error| {
            let who = self.regions.source().name();
            self.out_of_memory(request, format!("{who} says: {error}"))
        })
    }

    fn commit(&mut self, ends: &[(Region, u64)]) -> io::Result<()> {
        ends.iter().filter(|&&(_, end)| end > 0).try_for_each(|&(region, end)| {
            let committed = self.regions.commit(region, end);
            self.reserved_changed(region);
            committed
        })
    }

    /// Gives back to the system what no live block and no open unit needs.
    pub(crate) fn release(&mut self) {
        let idle = self.stats.units_in_flight.current == 0;
        if idle {
            self.regions.cells = Default::default();
        }
        for region in Region::ALL {
            if idle || region != Region::Transient {
                self.regions.release(region, 0);
                self.reserved_changed(region);
            }
        }
    }

    fn reserved_changed(&mut self, region: Region) {
        let bytes = self.regions.committed(region);
        let gauge = &mut self.stats.regions[region.index()].reserved;
        if gauge.current == bytes {
            return;
        }
        self.stats.total.reserved.set(self.stats.total.reserved.current - gauge.current + bytes);
        gauge.set(bytes);
        self.tell(&Event::Committed { region, bytes });
    }

    pub(crate) fn free(&mut self, number: usize) {
        let Some(Live { block, owner, .. }) = self.blocks[number].take() else { return };
        self.free_blocks.push(number);
        if owner.is_some_and(|owner| self.units.get(owner.unit).is_none()) {
            return; // went with its unit
        }
        if owner.is_some_and(|owner| self.leaves_journey(owner, block.bytes)) {
            return;
        }
        let Block { region, offset, bytes, .. } = block;
        if !self.adaptors.is_empty() {
            let memory = self.regions.at(region, offset);
            self.tell(&Event::Freed { block: &block, memory });
        }
        self.forget(&block, owner);
        if region == Region::Transient {
            self.regions.transient.give(offset);
        } else if let Some(arena) = self.regions.searched(region) {
            arena.give(offset, bytes);
            if region == Region::Overflow && self.stats.region(region).active.current == 0 {
                // Nothing unplanned is left: it should not cost the steady state anything.
                self.regions.release(region, self.regions.source().keeps());
                self.reserved_changed(region);
            }
        }
    }

    /// Adds block number `block_number` to all figures it belongs to.
    fn count(&mut self, block: &Block, owner: Option<Holder>, block_number: usize) {
        let &Block { region, bytes, requested, .. } = block;
        self.stats.count(region, bytes, requested);
        self.stats.allocations += 1;
        if let Some(Holder { unit, held, number }) = owner {
            self.stats.activations.add(bytes);
            if let Some(unit) = self.units.get_mut(unit) {
                unit.cells[held][number].filled = Some(block_number);
                unit.usage[held].count(bytes, requested);
            }
        }
    }

    /// Takes a block out of all figures it belongs to.
    fn forget(&mut self, block: &Block, owner: Option<Holder>) {
        let &Block { region, bytes, requested, .. } = block;
        self.stats.forget(region, bytes, requested);
        if let Some(Holder { unit, held, number }) = owner {
            self.stats.activations.sub(bytes);
            if let Some(unit) = self.units.get_mut(unit) {
                unit.cells[held][number].filled = None;
                unit.usage[held].forget(bytes, requested);
            }
        }
    }

    pub(crate) fn tell(&mut self, event: &Event<'_>) {
        self.adaptors.iter_mut().for_each(|adaptor| adaptor.event(event));
        if let Event::Allocated { block, memory, .. } | Event::Freed { block, memory } = event
            && let Some(byte) = self.fill
        {
            // SAFETY: the event names committed memory that nobody may read or write at this moment: a
            // block not yet handed out, or one just given back or lost with its unit.
            unsafe { self.regions.source().fill(*memory, byte, block.bytes) };
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), AllocError> {
        self.adaptors.iter_mut().try_for_each(|adaptor| adaptor.flush())
    }
}
