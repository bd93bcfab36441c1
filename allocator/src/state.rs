//! Placement and accounting of one rank's memory: everything behind its lock.

use std::panic::Location;
use std::sync::Arc;

use crate::adaptor::{Adaptor, Ask, Event, Shared};
use crate::allocation::UnitState;
use crate::arena::{General, Pool, Slots, align};
use crate::source::{Range, pages};
use crate::{
    AllocError, Bytes, Gauge, MemoryStats, OutOfMemory, Owner, Phase, Region, UnitId, UnitPlan,
};

/// How many owners an out-of-memory report names.
const OWNERS: usize = 5;

/// A live block.
#[derive(Clone)]
pub(crate) struct LiveBlock {
    pub region: Region,
    pub offset: u64,
    pub bytes: u64,
    pub requested: u64,
    pub op: &'static str,
    pub layer: Option<u32>,
    pub unit: Option<UnitId>,
    /// Position of the unit that owns the bytes in the table of open units.
    pub owner: Option<Arc<UnitState>>,
}

/// What is asked for, with everything the scope knows about it.
pub(crate) struct Request<'a> {
    pub bytes: u64,
    pub op: &'static str,
    pub location: &'static Location<'static>,
    pub layer: Option<u32>,
    pub place: Option<Region>,
    pub unit: Option<&'a Arc<UnitState>>,
    /// (region, offset) by the plan, if it knows this allocation.
    pub planned: Option<(Region, u64)>,
}

struct OpenUnit {
    state: Arc<UnitState>,
    plan: Option<Arc<UnitPlan>>,
    /// Offsets of the unit's slots in the slot, extra and K/V regions.
    bases: [u64; 3],
    /// Live bytes (active, requested) it owns there.
    live: [(u64, u64); 3],
    forward_ran: bool,
}

/// Regions in which units have slots, in the order of `OpenUnit::bases`.
const SLOTTED: [Region; 3] = [Region::Slot, Region::Extra, Region::Kv];

fn slotted(region: Region) -> Option<usize> {
    SLOTTED.iter().position(|&slotted| slotted == region)
}

pub(crate) struct State {
    rank: u32,
    strict: bool,
    ranges: [Option<Range>; 8],
    persistent: Pool,
    slots: Slots,
    /// One arena per chunk, each in a window of the extra region that its plan fixes.
    extra: Slots,
    kv: Slots,
    kv_grad: Pool,
    comm: Pool,
    overflow: General,
    transient_extent: u64,
    /// (offset, end) of live transient blocks.
    transient_live: Vec<(u64, u64)>,
    plans: Vec<Option<Arc<UnitPlan>>>,
    units: Vec<Option<OpenUnit>>,
    blocks: Vec<Option<LiveBlock>>,
    free_blocks: Vec<usize>,
    stats: MemoryStats,
    adaptors: Vec<Box<dyn Adaptor>>,
}

impl State {
    pub(crate) fn new(rank: u32, strict: bool, adaptors: Vec<Box<dyn Adaptor>>) -> Self {
        Self {
            rank,
            strict,
            ranges: [const { None }; 8],
            persistent: Pool::default(),
            slots: Slots::default(),
            extra: Slots::default(),
            kv: Slots::default(),
            kv_grad: Pool::default(),
            comm: Pool::default(),
            overflow: General::default(),
            transient_extent: 0,
            transient_live: Vec::new(),
            plans: Vec::new(),
            units: Vec::new(),
            blocks: Vec::new(),
            free_blocks: Vec::new(),
            stats: MemoryStats::default(),
            adaptors,
        }
    }

    pub(crate) fn allocate(
        &mut self,
        request: &Request<'_>,
    ) -> Result<(usize, Region, std::ptr::NonNull<u8>), AllocError> {
        let bytes = align(request.bytes);
        let (region, offset) = self.place(request, bytes)?;
        let owner = slotted(region).and(request.unit).cloned();
        if let Some(unit) = &owner {
            self.own(unit.index, region, bytes, request.bytes);
        }
        let usage = &mut self.stats.regions[region.index()];
        usage.active.add(bytes);
        usage.requested.add(request.bytes);
        self.stats.total.active.add(bytes);
        self.stats.total.requested.add(request.bytes);
        if owner.is_some() {
            self.stats.activations.add(bytes);
        }
        self.stats.allocations += 1;
        let block = LiveBlock {
            region,
            offset,
            bytes,
            requested: request.bytes,
            op: request.op,
            layer: request.layer,
            unit: request.unit.map(|unit| unit.id),
            owner,
        };
        let memory = self.range(region).at(offset);
        if !self.adaptors.is_empty() {
            let event =
                Event::Allocated { block: &block.shared(), location: request.location, memory };
            self.adaptors.iter_mut().for_each(|adaptor| adaptor.event(&event));
        }
        let index = match self.free_blocks.pop() {
            Some(index) => index,
            None => {
                self.blocks.push(None);
                self.blocks.len() - 1
            }
        };
        self.blocks[index] = Some(block);
        Ok((index, region, memory))
    }

    fn own(&mut self, unit: usize, region: Region, bytes: u64, requested: u64) {
        let (Some(open), Some(slot)) = (&mut self.units[unit], slotted(region)) else { return };
        open.live[slot].0 += bytes;
        open.live[slot].1 += requested;
    }

    /// Finds a place: the plan's if it holds, the hinted region's, or the overflow pool.
    fn place(&mut self, request: &Request<'_>, bytes: u64) -> Result<(Region, u64), AllocError> {
        if let Some((region, offset)) = request.planned {
            match region {
                Region::Transient
                    if !self
                        .transient_live
                        .iter()
                        .any(|&(start, end)| offset < end && start < offset + bytes) =>
                {
                    self.commit(region, self.transient_extent, request)?;
                    self.transient_live.push((offset, offset + bytes));
                    return Ok((region, offset));
                }
                Region::Comm => return self.place_in_pool(Region::Comm, request, bytes),
                Region::Slot | Region::Extra | Region::Kv => {
                    let unit = request.unit.and_then(|unit| self.units[unit.index].as_ref());
                    if let (Some(unit), Some(slot)) = (unit, slotted(region)) {
                        return Ok((region, unit.bases[slot] + offset));
                    }
                }
                _ => {}
            }
        }
        if let Some(region @ (Region::Persistent | Region::KvGrad)) = request.place {
            return self.place_in_pool(region, request, bytes);
        }
        if let Some(unit) = request.unit {
            self.stats.overflow_hits += 1;
            if self.strict {
                return Err(AllocError::NotPlanned {
                    op: request.op,
                    bytes: Bytes(request.bytes),
                    unit: unit.id,
                    layer: request.layer,
                });
            }
        }
        self.commit(Region::Overflow, self.overflow.end_with(bytes), request)?;
        Ok((Region::Overflow, self.overflow.place(bytes)))
    }

    fn place_in_pool(
        &mut self,
        region: Region,
        request: &Request<'_>,
        bytes: u64,
    ) -> Result<(Region, u64), AllocError> {
        let end = self.pool(region).end_with(bytes);
        self.commit(region, end, request)?;
        Ok((region, self.pool(region).place(bytes)))
    }

    fn pool(&mut self, region: Region) -> &mut Pool {
        match region {
            Region::Persistent => &mut self.persistent,
            Region::KvGrad => &mut self.kv_grad,
            _ => &mut self.comm,
        }
    }

    fn range(&self, region: Region) -> &Range {
        self.ranges[region.index()].as_ref().expect("a block is placed only in a committed range")
    }

    /// Commits the first `end` bytes of a region; asks the adaptors first.
    fn commit(
        &mut self,
        region: Region,
        end: u64,
        request: &Request<'_>,
    ) -> Result<(), AllocError> {
        let held = self.ranges[region.index()].as_ref().map_or(0, Range::committed);
        let growth = pages(end).saturating_sub(held);
        let ask = Ask { growth, reserved: self.stats.total.reserved.current };
        if let Some(cause) = self.adaptors.iter_mut().find_map(|adaptor| adaptor.refuses(&ask)) {
            return Err(self.out_of_memory(request, cause));
        }
        if growth == 0 && self.ranges[region.index()].is_some() {
            return Ok(());
        }
        if self.ranges[region.index()].is_none() {
            self.ranges[region.index()] = Some(Range::reserve()?);
        }
        let range = self.ranges[region.index()].as_mut().expect("reserved above");
        if let Err(error) = range.commit(end) {
            return Err(self.out_of_memory(request, format!("the operating system says: {error}")));
        }
        self.reserved_changed(region);
        Ok(())
    }

    fn reserved_changed(&mut self, region: Region) {
        let bytes = self.ranges[region.index()].as_ref().map_or(0, Range::committed);
        self.stats.regions[region.index()].reserved.set(bytes);
        let total = self.stats.regions.iter().map(|usage| usage.reserved.current).sum();
        self.stats.total.reserved.set(total);
        let event = Event::Committed { region, bytes };
        self.adaptors.iter_mut().for_each(|adaptor| adaptor.event(&event));
    }

    pub(crate) fn free(&mut self, index: usize) {
        let Some(block) = self.blocks[index].take() else { return };
        self.free_blocks.push(index);
        if block
            .owner
            .as_ref()
            .is_some_and(|unit| unit.closed.load(std::sync::atomic::Ordering::Acquire))
        {
            return; // went with its unit
        }
        if !self.adaptors.is_empty() {
            let memory = self.range(block.region).at(block.offset);
            let event = Event::Freed { block: &block.shared(), memory };
            self.adaptors.iter_mut().for_each(|adaptor| adaptor.event(&event));
        }
        self.forget(block.region, block.bytes, block.requested);
        if let (Some(unit), Some(slot)) = (&block.owner, slotted(block.region)) {
            self.stats.activations.sub(block.bytes);
            if let Some(open) = &mut self.units[unit.index] {
                open.live[slot].0 -= block.bytes;
                open.live[slot].1 -= block.requested;
            }
        }
        match block.region {
            Region::Persistent | Region::KvGrad | Region::Comm => {
                self.pool(block.region).free(block.offset, block.bytes);
            }
            Region::Transient => {
                let live = &mut self.transient_live;
                if let Some(at) = live.iter().position(|&(start, _)| start == block.offset) {
                    live.swap_remove(at);
                }
            }
            Region::Overflow => {
                self.overflow.free(block.offset, block.bytes);
                if self.stats.regions[Region::Overflow.index()].active.current == 0 {
                    // Nothing unplanned is left: it should not cost the steady state anything.
                    self.overflow.trim();
                    if let Some(range) = &mut self.ranges[Region::Overflow.index()] {
                        range.release(self.overflow.end());
                    }
                    self.reserved_changed(Region::Overflow);
                }
            }
            Region::Slot | Region::Extra | Region::Kv => {}
        }
    }

    fn forget(&mut self, region: Region, bytes: u64, requested: u64) {
        let usage = &mut self.stats.regions[region.index()];
        usage.active.sub(bytes);
        usage.requested.sub(requested);
        self.stats.total.active.sub(bytes);
        self.stats.total.requested.sub(requested);
    }

    pub(crate) fn install(&mut self, chunk: u32, plan: UnitPlan) -> Result<(), AllocError> {
        let open = self.stats.units_in_flight.current;
        if open > 0 {
            return Err(AllocError::PlanInUse { open });
        }
        let chunk = chunk as usize;
        if self.plans.len() <= chunk {
            self.plans.resize(chunk + 1, None);
        }
        self.plans[chunk] = Some(Arc::new(plan));
        let widest =
            |region| self.plans.iter().flatten().map(|plan| plan.bytes(region)).max().unwrap_or(0);
        self.slots = Slots::new(widest(Region::Slot));
        self.extra = Slots::new(widest(Region::Extra));
        self.kv = Slots::new(widest(Region::Kv));
        self.transient_extent = widest(Region::Transient);
        Ok(())
    }

    pub(crate) fn open(&mut self, id: UnitId) -> Result<Arc<UnitState>, AllocError> {
        if self.units.iter().flatten().any(|unit| unit.state.id == id) {
            return Err(AllocError::UnitOpen(id));
        }
        let plan = self.plans.get(id.chunk as usize).cloned().flatten();
        let mut bases = [0; 3];
        if let Some(plan) = &plan {
            let ask = Request {
                bytes: plan.activation_bytes(),
                op: "unit",
                location: Location::caller(),
                layer: None,
                place: None,
                unit: None,
                planned: None,
            };
            // Commit all three before taking any, so that a failure leaves nothing half done.
            for region in SLOTTED.into_iter().filter(|&region| plan.bytes(region) > 0) {
                let end = self.slot_arena(region).end_with();
                self.commit(region, end, &ask)?;
            }
            for (base, region) in bases.iter_mut().zip(SLOTTED) {
                if plan.bytes(region) > 0 {
                    *base = self.slot_arena(region).take();
                }
            }
        }
        let index = self.units.iter().position(Option::is_none).unwrap_or_else(|| {
            self.units.push(None);
            self.units.len() - 1
        });
        let state = Arc::new(UnitState { id, index, closed: false.into() });
        self.units[index] = Some(OpenUnit {
            state: state.clone(),
            plan,
            bases,
            live: [(0, 0); 3],
            forward_ran: false,
        });
        self.stats.units_in_flight.add(1);
        self.tell(&Event::UnitOpened(id));
        Ok(state)
    }

    fn slot_arena(&mut self, region: Region) -> &mut Slots {
        match region {
            Region::Slot => &mut self.slots,
            Region::Extra => &mut self.extra,
            _ => &mut self.kv,
        }
    }

    /// The plan a unit's phase follows; `None` also for a second forward, whose blocks would fall
    /// on those of the first.
    pub(crate) fn begin(&mut self, unit: &UnitState, phase: Phase) -> Option<Arc<UnitPlan>> {
        self.tell(&Event::Phase(unit.id, phase));
        let open = self.units[unit.index].as_mut()?;
        let again = phase == Phase::Forward && std::mem::replace(&mut open.forward_ran, true);
        if again { None } else { open.plan.clone() }
    }

    pub(crate) fn close(&mut self, unit: &UnitState) {
        let Some(open) = self.units[unit.index].take() else { return };
        unit.closed.store(true, std::sync::atomic::Ordering::Release);
        for ((region, base), (bytes, requested)) in
            SLOTTED.into_iter().zip(open.bases).zip(open.live)
        {
            self.forget(region, bytes, requested);
            self.stats.activations.sub(bytes);
            let planned = open.plan.as_ref().map_or(0, |plan| plan.bytes(region));
            if planned > 0 {
                let memory = self.range(region).at(base);
                self.tell(&Event::SlotReturned { region, bytes: planned, memory });
                self.slot_arena(region).give(base);
            }
        }
        self.stats.units_in_flight.sub(1);
        self.tell(&Event::UnitClosed(unit.id));
    }

    fn tell(&mut self, event: &Event<'_>) {
        self.adaptors.iter_mut().for_each(|adaptor| adaptor.event(event));
    }

    pub(crate) fn flush(&mut self) -> Result<(), AllocError> {
        self.adaptors.iter_mut().try_for_each(|adaptor| adaptor.flush())
    }

    pub(crate) fn stats(&self) -> MemoryStats {
        MemoryStats { largest_free: self.largest_free(), ..self.stats.clone() }
    }

    pub(crate) fn reset_peaks(&mut self) {
        let stats = &mut self.stats;
        let all: &mut [&mut Gauge] = &mut [&mut stats.activations, &mut stats.units_in_flight];
        all.iter_mut().for_each(|gauge| gauge.reset_peak());
        for usage in stats.regions.iter_mut().chain([&mut stats.total]) {
            usage.requested.reset_peak();
            usage.active.reset_peak();
            usage.reserved.reset_peak();
        }
        stats.overflow_hits = 0;
    }

    fn largest_free(&self) -> u64 {
        let pools = [&self.persistent, &self.kv_grad, &self.comm];
        let slots = [&self.slots, &self.extra, &self.kv];
        let in_slots = slots
            .iter()
            .filter(|slots| slots.end() > slots.taken() * slots.stride())
            .map(|slots| slots.stride());
        pools
            .iter()
            .map(|pool| pool.largest_free())
            .chain(in_slots)
            .chain([self.overflow.largest_free()])
            .max()
            .unwrap_or(0)
    }

    fn out_of_memory(&self, request: &Request<'_>, cause: String) -> AllocError {
        AllocError::OutOfMemory(Box::new(OutOfMemory {
            rank: self.rank,
            op: request.op,
            requested: Bytes(request.bytes),
            active: Bytes(self.stats.total.active.current),
            reserved: Bytes(self.stats.total.reserved.current),
            limit: self.adaptors.iter().find_map(|adaptor| adaptor.limit()).map(Bytes),
            largest_free: Bytes(self.largest_free()),
            cause,
            owners: self.owners(OWNERS),
        }))
    }

    /// Who holds most live bytes, largest first: equal (unit, layer, op, region) count together.
    pub(crate) fn owners(&self, most: usize) -> Vec<Owner> {
        let mut owners: Vec<Owner> = Vec::new();
        for block in self.blocks.iter().flatten() {
            let gone = block
                .owner
                .as_ref()
                .is_some_and(|unit| unit.closed.load(std::sync::atomic::Ordering::Acquire));
            if gone {
                continue;
            }
            let same = owners.iter_mut().find(|owner| {
                (owner.unit, owner.layer, owner.op, owner.region)
                    == (block.unit, block.layer, block.op, block.region)
            });
            match same {
                Some(owner) => {
                    owner.bytes.0 += block.bytes;
                    owner.blocks += 1;
                }
                None => owners.push(Owner {
                    rank: self.rank,
                    unit: block.unit,
                    layer: block.layer,
                    op: block.op,
                    region: block.region,
                    bytes: Bytes(block.bytes),
                    blocks: 1,
                }),
            }
        }
        owners.sort_by_key(|owner| std::cmp::Reverse(owner.bytes));
        owners.truncate(most);
        owners
    }
}

impl LiveBlock {
    fn shared(&self) -> Shared {
        Shared {
            region: self.region,
            offset: self.offset,
            bytes: self.bytes,
            requested: self.requested,
            op: self.op,
            layer: self.layer,
            unit: self.unit,
        }
    }
}
