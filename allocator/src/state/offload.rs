//! Units on their way to a second memory and back.

use std::collections::BTreeMap;
use std::io;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;

use super::units::OpenUnit;
use super::{Holder, Live, Request, State};
use crate::adaptor::{Block, Event};
use crate::allocation::UnitState;
use crate::offload::{Completion, Move, Way};
use crate::plan::SLOT;
use crate::{AllocError, Region};

/// Where the travelling part of a unit's slot is.
#[derive(Default)]
pub(super) enum Stay {
    /// In its cells.
    #[default]
    Here,
    /// In its cells, being copied out.
    Leaving(Journey, Arc<dyn Completion>),
    /// In the second memory; it has no cells.
    Away(Journey),
    /// In the second memory, being copied into new cells.
    Coming(Journey, Arc<dyn Completion>),
}

/// What travels.
pub(super) struct Journey {
    /// The area in the second memory, and its bytes.
    area: (u64, u64),
    /// Cells whose blocks it holds, by number, and where in the area each is.
    cells: Vec<(usize, u64)>,
    /// Bytes of these blocks.
    bytes: u64,
}

impl State {
    /// Starts to copy a unit's travelling part out; false if there is none, or it is not here.
    pub(crate) fn offload(&mut self, unit: &UnitState) -> Result<bool, AllocError> {
        self.with(unit, |state, open| {
            let (Some(second), Some(plan), Stay::Here) =
                (&mut state.offload, &open.plan, &open.stay)
            else {
                return Ok(false);
            };
            let (mut cells, mut moves, mut bytes) = (Vec::new(), Vec::new(), 0);
            for &(number, at) in &plan.travelling().cells {
                let filled = open.cells[SLOT][number].filled.filter(|_| !unit.is_pinned(number));
                let Some(live) = filled.and_then(|block| state.blocks[block].as_ref()) else {
                    continue;
                };
                let Block { region, offset, bytes: len, .. } = live.block;
                cells.push((number, at));
                moves.push(Move { address: state.regions.at(region, offset), at, bytes: len });
                bytes += len;
            }
            if cells.is_empty() {
                return Ok(false);
            }
            let len = plan.travelling().bytes;
            let area = second.take(len);
            let area = area.map_err(|error| second_memory(second.name(), unit, error))?;
            moves.iter_mut().for_each(|to| to.at += area);
            // SAFETY: the cells are the unit's, and so committed, until it arrives; freeing a block in one
            // of them and closing the unit wait for the copy. Meanwhile forward's tensors are kept for
            // backward, and nobody writes to them.
            let ticket = unsafe { second.copy(Way::Out, moves) };
            open.stay = Stay::Leaving(Journey { area: (area, len), cells, bytes }, ticket);
            Ok(true)
        })
        .unwrap_or(Ok(false))
    }

    /// Takes cells for what is away and starts to copy it back.
    pub(crate) fn prefetch(
        &mut self,
        unit: &UnitState,
        location: &'static Location<'static>,
    ) -> Result<(), AllocError> {
        let Some(open) = self.units.get(unit.key) else { return Ok(()) };
        let Stay::Away(journey) = &open.stay else { return Ok(()) };
        let mut wanted = BTreeMap::new();
        for &(number, _) in &journey.cells {
            *wanted.entry(open.size(number)).or_default() += 1;
        }
        let request = Request {
            bytes: journey.bytes,
            op: "prefetch",
            location,
            layer: None,
            place: None,
            unit: None,
            planned: None,
            in_phase: false,
        };
        self.admit(&request, |regions| [(Region::Slot, regions.cells[SLOT].end_with(&wanted))])?;
        self.tell(&Event::Restored(unit.id));
        self.with(unit, |state, open| {
            let Stay::Away(journey) = std::mem::take(&mut open.stay) else { return };
            let mut moves = Vec::with_capacity(journey.cells.len());
            for &(number, at) in &journey.cells {
                let (address, bytes) = state.place(open, number);
                moves.push(Move { address, at: journey.area.0 + at, bytes });
            }
            if let Some(second) = &state.offload {
                // SAFETY: the cells were just taken for the unit, which keeps them, and does not show
                // their addresses before it arrives.
                let ticket = unsafe { second.copy(Way::In, moves) };
                open.stay = Stay::Coming(journey, ticket);
            }
        });
        Ok(())
    }

    pub(crate) fn offloads(&self) -> bool {
        self.offload.is_some()
    }

    pub(crate) fn is_leaving(&self, unit: &UnitState) -> bool {
        self.units.get(unit.key).is_some_and(|open| matches!(open.stay, Stay::Leaving(..)))
    }

    /// The copy that a unit's travelling part is in, if one is.
    pub(crate) fn ticket(&self, unit: &UnitState) -> Option<Arc<dyn Completion>> {
        self.units.get(unit.key)?.stay.ticket().cloned()
    }

    /// Makes a copy that is complete count: what went out gives up its cells, what came back can be used.
    pub(crate) fn arrive(&mut self, unit: &UnitState) -> Result<(), AllocError> {
        let arrived = self.with(unit, |state, open| match std::mem::take(&mut open.stay) {
            Stay::Leaving(mut journey, ticket) => {
                if let Err(error) = ticket.result() {
                    state.end(&journey);
                    return Err(error);
                }
                // A message that is read from where it was made stays there.
                journey.retain(open, &state.blocks, |number| !unit.is_pinned(number));
                state.stats.offloaded.add(journey.bytes);
                state.tell(&Event::Offloaded(unit.id));
                state.vacate(unit, open, &journey);
                open.stay = Stay::Away(journey);
                Ok(())
            }
            Stay::Coming(journey, ticket) => {
                if let Err(error) = ticket.result() {
                    state.vacate(unit, open, &journey);
                    open.stay = Stay::Away(journey);
                    return Err(error);
                }
                for &(number, _) in &journey.cells {
                    let offset = open.cells[SLOT][number].offset;
                    unit.show(number, offset.map(|at| state.regions.at(Region::Slot, at)));
                }
                state.stats.offloaded.sub(journey.bytes);
                state.end(&journey);
                Ok(())
            }
            stay => {
                open.stay = stay;
                Ok(())
            }
        });
        arrived.unwrap_or(Ok(())).map_err(|error| {
            let place = self.offload.as_ref().map_or_else(String::new, |second| second.name());
            second_memory(place, unit, error)
        })
    }

    /// Runs `f` on a unit that is open.
    fn with<R>(
        &mut self,
        unit: &UnitState,
        f: impl FnOnce(&mut Self, &mut OpenUnit) -> R,
    ) -> Option<R> {
        let mut open = self.units.remove(unit.key)?;
        let result = f(self, &mut open);
        self.units.put(unit.key, open);
        Some(result)
    }

    /// Takes a cell for the block that travels with cell `number`, and counts it: its address and bytes.
    fn place(&mut self, open: &mut OpenUnit, number: usize) -> (NonNull<u8>, u64) {
        let size = open.size(number);
        let offset = self.regions.cells[SLOT].take(size);
        let address = self.regions.at(Region::Slot, offset);
        let cell = &mut open.cells[SLOT][number];
        cell.offset = Some(offset);
        let usage = &mut open.usage[SLOT];
        usage.reserved.set(usage.reserved.current + size);
        let live = cell.filled.and_then(|block| self.blocks[block].as_mut());
        let Some(Live { block, location, .. }) = live else { return (address, 0) };
        block.offset = offset;
        let (block, location) = (*block, *location);
        self.stats.count(Region::Slot, block.bytes, block.requested);
        self.stats.allocations += 1;
        self.stats.activations.add(block.bytes);
        usage.count(block.bytes, block.requested);
        self.tell(&Event::Allocated { block: &block, location, memory: address });
        (address, block.bytes)
    }

    /// Takes the journey's blocks out of all figures, and gives their cells back.
    fn vacate(&mut self, unit: &UnitState, open: &mut OpenUnit, journey: &Journey) {
        for &(number, _) in journey.cells.iter().rev() {
            unit.show(number, None);
            let size = open.size(number);
            let cell = &mut open.cells[SLOT][number];
            let Some(offset) = cell.offset.take() else { continue };
            let usage = &mut open.usage[SLOT];
            if let Some(live) = cell.filled.and_then(|block| self.blocks[block].as_ref()) {
                let block = live.block;
                self.stats.forget(Region::Slot, block.bytes, block.requested);
                self.stats.activations.sub(block.bytes);
                usage.forget(block.bytes, block.requested);
                let memory = self.regions.at(Region::Slot, offset);
                self.tell(&Event::Freed { block: &block, memory });
            }
            usage.reserved.set(usage.reserved.current - size);
            self.regions.cells[SLOT].give(offset, size);
        }
    }

    /// Gives the journey's area back.
    fn end(&mut self, journey: &Journey) {
        if let Some(second) = &mut self.offload {
            second.give(journey.area.0, journey.area.1);
        }
    }

    /// Notes that the block in a cell is freed, once nothing copies it any more. True if it is away,
    /// where it counts as nothing.
    pub(super) fn leaves_journey(&mut self, holder: Holder, bytes: u64) -> bool {
        if self.offload.is_none() || holder.held != SLOT {
            return false;
        }
        let Some(open) = self.units.get_mut(holder.unit) else { return false };
        if let Some(ticket) = open.stay.ticket() {
            ticket.wait();
        }
        let (is_away, is_there) =
            (matches!(open.stay, Stay::Away(_)), !matches!(open.stay, Stay::Leaving(..)));
        let Some(journey) = open.stay.journey() else { return false };
        let Some(at) = journey.cells.iter().position(|&(number, _)| number == holder.number) else {
            return false;
        };
        journey.cells.remove(at);
        journey.bytes -= bytes;
        if is_there {
            self.stats.offloaded.sub(bytes);
        }
        if is_away {
            open.cells[SLOT][holder.number].filled = None;
        }
        is_away
    }

    /// Ends the journey of a unit that closes.
    pub(super) fn abandon(&mut self, open: &mut OpenUnit) {
        if let Some(ticket) = open.stay.ticket() {
            ticket.wait();
        }
        let is_there = !matches!(open.stay, Stay::Leaving(..));
        if let Some(journey) = open.stay.journey() {
            if is_there {
                self.stats.offloaded.sub(journey.bytes);
            }
            self.end(journey);
        }
    }
}

impl Stay {
    fn journey(&mut self) -> Option<&mut Journey> {
        match self {
            Self::Here => None,
            Self::Leaving(journey, _) | Self::Away(journey) | Self::Coming(journey, _) => {
                Some(journey)
            }
        }
    }

    fn ticket(&self) -> Option<&Arc<dyn Completion>> {
        match self {
            Self::Here | Self::Away(_) => None,
            Self::Leaving(_, ticket) | Self::Coming(_, ticket) => Some(ticket),
        }
    }
}

impl Journey {
    /// Leaves out the blocks in cells that `keep` refuses.
    fn retain(&mut self, open: &OpenUnit, blocks: &[Option<Live>], keep: impl Fn(usize) -> bool) {
        self.cells.retain(|&(number, _)| {
            let filled = open.cells[SLOT][number].filled;
            let bytes =
                filled.and_then(|block| blocks[block].as_ref()).map_or(0, |l| l.block.bytes);
            let stays = keep(number);
            self.bytes -= if stays { 0 } else { bytes };
            stays
        });
    }
}

fn second_memory(place: String, unit: &UnitState, source: io::Error) -> AllocError {
    AllocError::SecondMemory { place, unit: unit.id, source }
}
