//! Units in flight: opening, phases, closing.

use std::panic::Location;
use std::sync::Arc;

use super::offload::Stay;
use super::{Holder, Live, Request, State};
use crate::adaptor::Event;
use crate::allocation::{UnitKey, UnitState};
use crate::plan::{HELD, SLOT};
use crate::{AllocError, Phase, Region, UnitId, UnitPlan, UnitUsage, Usage};

/// A unit between its opening and its end.
pub(super) struct OpenUnit {
    pub state: Arc<UnitState>,
    pub plan: Option<Arc<UnitPlan>>,
    /// Its cells, by region in the order of `HELD`, then by number.
    pub cells: [Vec<Cell>; HELD.len()],
    pub usage: [Usage; HELD.len()],
    pub stay: Stay,
    forward_ran: bool,
}

/// A cell that a unit holds, for one block after another.
pub(super) struct Cell {
    /// Where it is, while it is taken from the region.
    pub offset: Option<u64>,
    /// The block that lies in it, or that is away and would, by its number.
    pub filled: Option<usize>,
}

/// The table of open units. A place is used again; its generation tells the units apart.
#[derive(Default)]
pub(super) struct Units(Vec<(u32, Option<OpenUnit>)>);

impl Units {
    pub(super) fn iter(&self) -> impl Iterator<Item = &OpenUnit> {
        self.0.iter().filter_map(|(_, unit)| unit.as_ref())
    }

    /// The unit of that key, if it is still open.
    pub(super) fn get(&self, key: UnitKey) -> Option<&OpenUnit> {
        let (generation, unit) = &self.0[key.index as usize];
        unit.as_ref().filter(|_| *generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: UnitKey) -> Option<&mut OpenUnit> {
        let (generation, unit) = &mut self.0[key.index as usize];
        unit.as_mut().filter(|_| *generation == key.generation)
    }

    /// A key for one more unit.
    fn vacant(&mut self) -> UnitKey {
        let index = self.0.iter().position(|(_, unit)| unit.is_none()).unwrap_or_else(|| {
            self.0.push((0, None));
            self.0.len() - 1
        });
        let generation = self.0[index].0.wrapping_add(1);
        self.0[index].0 = generation;
        UnitKey { index: index as u32, generation }
    }

    pub(super) fn remove(&mut self, key: UnitKey) -> Option<OpenUnit> {
        self.get(key)?;
        self.0[key.index as usize].1.take()
    }

    /// Puts a unit back that was removed.
    pub(super) fn put(&mut self, key: UnitKey, unit: OpenUnit) {
        self.0[key.index as usize].1 = Some(unit);
    }
}

impl State {
    pub(crate) fn install(
        &mut self,
        chunk: u32,
        mut plans: Vec<UnitPlan>,
    ) -> Result<(), AllocError> {
        self.expect_idle()?;
        if let Some(offload) = &self.offload {
            plans.iter_mut().for_each(|plan| plan.split(offload.ratio));
        }
        let chunk = chunk as usize;
        if self.plans.len() <= chunk {
            self.plans.resize_with(chunk + 1, Vec::new);
        }
        self.plans[chunk] = plans.into_iter().map(Arc::new).collect();
        self.tell_plans(chunk);
        self.plans_changed();
        Ok(())
    }

    pub(crate) fn install_task(&mut self, plan: Arc<UnitPlan>) -> Result<(), AllocError> {
        self.expect_idle()?;
        self.tasks.push(plan);
        self.plans_changed();
        Ok(())
    }

    pub(crate) fn plan(&self, chunk: u32, slice: u32) -> Option<Arc<UnitPlan>> {
        let plans = self.plans.get(chunk as usize)?;
        plans.get(slice as usize).or(plans.last()).cloned()
    }

    /// Tells the adaptors what units of a chunk will hold.
    fn tell_plans(&mut self, chunk: usize) {
        let Self { plans, adaptors, .. } = self;
        for (slice, plan) in (0..).zip(&plans[chunk]) {
            for (region, holding) in HELD.into_iter().zip(plan.holdings()) {
                let (chunk, bytes) = (chunk as u32, holding.sizes.iter().sum());
                let planned = Event::Planned { chunk, slice, region, bytes };
                adaptors.iter_mut().for_each(|adaptor| adaptor.event(&planned));
            }
        }
    }

    fn expect_idle(&self) -> Result<(), AllocError> {
        match self.stats.units_in_flight.current {
            0 => Ok(()),
            open => Err(AllocError::PlanInUse { open }),
        }
    }

    fn plans_changed(&mut self) {
        let plans = self.plans.iter().flatten().chain(&self.tasks);
        let extent = plans.map(|plan| plan.bytes(Region::Transient)).max();
        let frame = extent.unwrap_or(0);
        self.regions.transient.set_extent(frame);
        let (chunk, slice, region) = (0, 0, Region::Transient);
        self.tell(&Event::Planned { chunk, slice, region, bytes: frame });
        // Cells of sizes that no plan asks for any more would stay for ever.
        self.release();
    }

    /// Opens a unit: takes all its cells, or none.
    pub(crate) fn open(
        &mut self,
        id: UnitId,
        location: &'static Location<'static>,
    ) -> Result<Arc<UnitState>, AllocError> {
        if self.units.iter().any(|unit| unit.state.id == id) {
            return Err(AllocError::UnitOpen(id));
        }
        let plan = self.plan(id.chunk, id.slice);
        let mut cells = [const { Vec::new() }; HELD.len()];
        let mut usage = [Usage::default(); HELD.len()];
        if let Some(plan) = &plan {
            let holdings = plan.holdings();
            let request = Request {
                bytes: plan.activation_bytes(),
                op: "unit",
                location,
                layer: None,
                place: None,
                unit: None,
                planned: None,
                in_phase: false,
            };
            self.admit(&request, |regions| {
                [0, 1]
                    .map(|held| (HELD[held], regions.cells[held].end_with(&holdings[held].wanted)))
            })?;
            for (held, holding) in holdings.iter().enumerate() {
                let arena = &mut self.regions.cells[held];
                let (sizes, early) = ((0..).zip(&holding.sizes), holding.at_opening());
                cells[held] = sizes
                    .map(|(number, &size)| {
                        let offset = (number < early).then(|| arena.take(size));
                        Cell { offset, filled: None }
                    })
                    .collect();
                usage[held].reserved.set(holding.bytes);
            }
        }
        let key = self.units.vacant();
        let travels = plan.as_ref().is_some_and(|plan| plan.travelling_bytes() > 0);
        let state = Arc::new(UnitState::new(id, key, if travels { cells[SLOT].len() } else { 0 }));
        let stay = Stay::default();
        let unit = OpenUnit { state: state.clone(), plan, cells, usage, stay, forward_ran: false };
        self.units.put(key, unit);
        self.stats.units_in_flight.add(1);
        self.tell(&Event::UnitOpened(id));
        Ok(state)
    }

    /// The plan a unit's phase follows; `None` also for a second forward, whose blocks would fall
    /// on those of the first.
    pub(crate) fn begin(&mut self, unit: &UnitState, phase: Phase) -> Option<Arc<UnitPlan>> {
        self.tell(&Event::Phase(unit.id, phase));
        let open = self.units.get_mut(unit.key)?;
        let again = phase == Phase::Forward && std::mem::replace(&mut open.forward_ran, true);
        if again { None } else { open.plan.clone() }
    }

    /// Ends a unit: all its cells go back, with what still lies in them.
    pub(crate) fn close(&mut self, unit: &UnitState) {
        let Some(mut open) = self.units.remove(unit.key) else { return };
        unit.close();
        self.abandon(&mut open);
        if open.usage.iter().any(|usage| usage.active.current > 0) {
            self.tell_lost(unit.key, &open);
        }
        for (held, usage) in open.usage.iter().enumerate() {
            self.stats.forget(HELD[held], usage.active.current, usage.requested.current);
            self.stats.activations.sub(usage.active.current);
        }
        let holdings = open.plan.iter().flat_map(|plan| plan.holdings());
        for (held, (holding, cells)) in holdings.zip(&open.cells).enumerate() {
            // Last taken, last given: the next unit like this one finds its cells in the same order.
            for (&bytes, cell) in holding.sizes.iter().zip(cells).rev() {
                if let Some(offset) = cell.offset {
                    self.regions.cells[held].give(offset, bytes);
                }
            }
        }
        self.stats.units_in_flight.sub(1);
        self.tell(&Event::UnitClosed(unit.id));
    }

    /// Where a unit's cell is, which is taken now if it was not yet.
    pub(super) fn cell(
        &mut self,
        request: &Request<'_>,
        holder: Holder,
    ) -> Result<u64, AllocError> {
        let Holder { unit, held, number } = holder;
        let open = self.units.get(unit);
        let place = open.and_then(|open| Some((open.plan.as_ref()?, &open.cells[held][number])));
        let (size, offset) = place
            .map_or((0, None), |(plan, cell)| (plan.holdings()[held].sizes[number], cell.offset));
        if let Some(offset) = offset {
            self.admit(request, |_| [])?;
            return Ok(offset);
        }
        self.admit(request, |regions| [(HELD[held], regions.cells[held].end_with([(&size, &1)]))])?;
        let offset = self.regions.cells[held].take(size);
        if let Some(open) = self.units.get_mut(unit) {
            open.cells[held][number].offset = Some(offset);
            let reserved = &mut open.usage[held].reserved;
            reserved.set(reserved.current + size);
        }
        Ok(offset)
    }

    /// Tells the adaptors, if there are any, of the blocks that a unit takes with it.
    fn tell_lost(&mut self, unit: UnitKey, open: &OpenUnit) {
        if self.adaptors.is_empty() {
            return;
        }
        let lost = |owner: &Holder| {
            owner.unit == unit && open.cells[owner.held][owner.number].offset.is_some()
        };
        let is_lost = |live: &&Live| live.owner.as_ref().is_some_and(lost);
        let blocks = self.blocks.iter().flatten().filter(is_lost).map(|live| live.block);
        for block in blocks.collect::<Vec<_>>() {
            let memory = self.regions.at(block.region, block.offset);
            self.tell(&Event::Freed { block: &block, memory });
        }
    }

    pub(crate) fn units(&self) -> Vec<UnitUsage> {
        self.units.iter().map(OpenUnit::usage).collect()
    }

    /// The figures of one unit; all zero once it is closed.
    pub(crate) fn unit_usage(&self, unit: &UnitState) -> UnitUsage {
        let none = UnitUsage { unit: unit.id, slot: Usage::default(), kv: Usage::default() };
        self.units.get(unit.key).map_or(none, OpenUnit::usage)
    }
}

impl OpenUnit {
    /// The size of a cell of its slot.
    pub(super) fn size(&self, number: usize) -> u64 {
        self.plan.as_ref().map_or(0, |plan| plan.holdings()[SLOT].sizes[number])
    }

    fn usage(&self) -> UnitUsage {
        let [slot, kv] = self.usage;
        UnitUsage { unit: self.state.id, slot, kv }
    }
}
