//! A rank's memory, followed by its log alone.

use std::collections::{BTreeMap, BTreeSet};

use slimpipe_allocator::events::{Block, Logged, What};
use slimpipe_allocator::{Phase, Region, UnitId};

/// A figure and the highest it has been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Now.
    pub current: u64,
    /// The highest so far.
    pub peak: u64,
}

impl Meter {
    fn set(&mut self, value: u64) {
        self.current = value;
        self.peak = self.peak.max(value);
    }
}

/// A live block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The block.
    pub block: Block,
    /// When it was placed, in nanoseconds since the log began.
    pub since: u64,
    /// The phase it was placed in, if in one.
    pub phase: Option<Phase>,
    /// How many blocks the log has placed before it.
    pub number: u64,
}

/// One region.
#[derive(Clone, Debug, Default)]
pub struct RegionState {
    live: BTreeMap<u64, Held>,
    active: Meter,
    reserved: Meter,
}

impl RegionState {
    /// Live blocks, by address.
    pub fn live(&self) -> impl Iterator<Item = &Held> {
        self.live.values()
    }

    /// Bytes of live blocks.
    pub fn active(&self) -> Meter {
        self.active
    }

    /// Committed bytes.
    pub fn reserved(&self) -> Meter {
        self.reserved
    }

    /// The longest stretch of committed bytes that no block takes, and all such bytes.
    pub fn free(&self) -> (u64, u64) {
        let (mut end, mut longest) = (0, 0);
        for (&offset, held) in &self.live {
            longest = longest.max(offset - end);
            end = offset + held.block.bytes;
        }
        let tail = self.reserved.current.saturating_sub(end);
        (longest.max(tail), self.reserved.current.saturating_sub(self.active.current))
    }

    fn place(&mut self, held: Held) -> Result<(), String> {
        let Block { offset, bytes, region, .. } = held.block;
        let end = offset + bytes;
        if let Some((other, before)) = self.live.range(..end).next_back()
            && other + before.block.bytes > offset
        {
            let len = before.block.bytes;
            return Err(format!(
                "{region}: {bytes} bytes at {offset} fall on {len} live at {other}"
            ));
        }
        if end > self.reserved.current {
            let there = self.reserved.current;
            return Err(format!("{region}: a block ends at {end}, and {there} are committed"));
        }
        self.live.insert(offset, held);
        self.active.set(self.active.current + bytes);
        Ok(())
    }

    fn free_block(&mut self, region: Region, offset: u64, bytes: u64) -> Result<Held, String> {
        let held = self.live.remove(&offset).filter(|held| held.block.bytes == bytes);
        let held = held.ok_or_else(|| {
            format!("{region}: {bytes} bytes at {offset} are freed, where no such block is live")
        })?;
        self.active.set(self.active.current - bytes);
        Ok(held)
    }
}

/// The memory of a rank, as its log tells it.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    regions: [RegionState; Region::COUNT],
    active: Meter,
    reserved: Meter,
    units: BTreeSet<UnitId>,
    units_peak: u64,
    phase: Option<(UnitId, Phase)>,
    step: Option<u64>,
    placed: u64,
    overflow_hits: u64,
    refused: u64,
}

impl Replay {
    /// Follows an event; gives the block that it freed.
    ///
    /// # Errors
    /// It cannot have happened: a block falls on a live one or lies outside committed memory, what is
    /// freed is not live, a unit is opened twice or closed without being open.
    pub fn apply(&mut self, event: &Logged) -> Result<Option<Held>, String> {
        match event.what {
            What::Alloc(block) => {
                let phase = self.phase.filter(|(unit, _)| block.unit == Some(*unit));
                let phase = phase.map(|(_, phase)| phase);
                self.regions[block.region.index()].place(Held {
                    block,
                    since: event.time,
                    phase,
                    number: self.placed,
                })?;
                self.placed += 1;
                self.active.set(self.active.current + block.bytes);
                self.overflow_hits += u64::from(block.unplanned);
            }
            What::Free { region, offset, bytes } => {
                let held = self.regions[region.index()].free_block(region, offset, bytes)?;
                self.active.set(self.active.current - bytes);
                return Ok(Some(held));
            }
            What::Committed { region, bytes } => {
                let reserved = &mut self.regions[region.index()].reserved;
                self.reserved.set(self.reserved.current - reserved.current + bytes);
                reserved.set(bytes);
            }
            What::UnitOpened(unit) => {
                let new = self.units.insert(unit);
                new.then_some(()).ok_or_else(|| format!("unit {unit} is opened twice"))?;
                self.units_peak = self.units_peak.max(self.units.len() as u64);
            }
            What::UnitClosed(unit) => {
                let was_open = self.units.remove(&unit).then_some(());
                was_open.ok_or_else(|| format!("unit {unit} is closed without being open"))?;
            }
            What::Phase(unit, phase) => self.phase = Some((unit, phase)),
            What::PhaseEnded(..) => self.phase = None,
            What::Step(step) => self.step = Some(step),
            What::Refused { .. } => self.refused += 1,
            _ => {}
        }
        Ok(None)
    }

    /// One region.
    pub fn region(&self, region: Region) -> &RegionState {
        &self.regions[region.index()]
    }

    /// Live blocks, by region and address.
    pub fn live(&self) -> impl Iterator<Item = &Held> {
        self.regions.iter().flat_map(RegionState::live)
    }

    /// Bytes of live blocks in all regions.
    pub fn active(&self) -> Meter {
        self.active
    }

    /// Committed bytes of all regions.
    pub fn reserved(&self) -> Meter {
        self.reserved
    }

    /// Units in flight.
    pub fn units(&self) -> Meter {
        Meter { current: self.units.len() as u64, peak: self.units_peak }
    }

    /// The unit and phase that run now, if one does.
    pub fn phase(&self) -> Option<(UnitId, Phase)> {
        self.phase
    }

    /// The training step that runs; `None` before the first.
    pub fn step(&self) -> Option<u64> {
        self.step
    }

    /// Blocks that were made in a unit or a task whose plan did not foresee them.
    pub fn overflow_hits(&self) -> u64 {
        self.overflow_hits
    }

    /// Requests for which there was no memory.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}
