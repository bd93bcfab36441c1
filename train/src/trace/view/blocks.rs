//! A rank's logs as blocks with a lifetime and a place: what a map of memory over time shows.

use std::collections::HashMap;

use slimpipe_allocator::{Phase, Region, UnitId};

use super::super::{Block, Event, Name, Playback, TraceError, What};

/// What made blocks: equal ones share a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub region: Region,
    pub unit: Option<UnitId>,
    pub layer: Option<u32>,
    pub name: Name,
}

/// A stretch of a rank's time in which it ran a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stretch {
    pub unit: UnitId,
    pub phase: Phase,
    pub begin: u64,
    pub end: u64,
}

/// Everything that a page shows of one rank. Times in nanoseconds since 1970, places in lines of 64
/// bytes.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub blocks: Vec<Lived>,
    pub owners: Vec<Owner>,
    pub stretches: Vec<Stretch>,
    /// Lines that each region ever reached, in the order of [`Region::ALL`].
    pub extents: [u64; Region::COUNT],
    /// When the first log began, and when the last event happened.
    pub begin: u64,
    pub end: u64,
    numbers: HashMap<Owner, u32>,
}

/// A block from its placing to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lived {
    pub begin: u64,
    pub end: u64,
    /// In its region.
    pub place: u64,
    pub lines: u64,
    /// An index into the owners.
    pub owner: u32,
}

/// What sizes are counted in.
const LINE: u64 = 64;
/// The end of blocks that are still live.
const OPEN: u64 = u64::MAX;

impl Blocks {
    /// Adds a log. Blocks that are live at its end end with it.
    pub fn add(&mut self, log: &mut Playback) -> Result<(), TraceError> {
        let began = log.began();
        self.begin = if self.blocks.is_empty() { began } else { self.begin.min(began) };
        self.end = self.end.max(began);
        let first = self.blocks.len();
        let mut live: HashMap<(Region, u64), usize> = HashMap::new();
        let mut running: Option<Stretch> = None;
        while let Some(Event { time, what, .. }) = log.next()? {
            let time = began.saturating_add(time);
            self.end = self.end.max(time);
            match what {
                What::Alloc(block) => {
                    let owner = self.number(&block, log.name(block.name));
                    let (place, lines) = (block.offset / LINE, block.bytes / LINE);
                    let reached = &mut self.extents[block.region.index()];
                    *reached = (*reached).max(place + lines);
                    live.insert((block.region, block.offset), self.blocks.len());
                    self.blocks.push(Lived { begin: time, end: OPEN, place, lines, owner });
                }
                What::Free { region, offset, .. } => {
                    if let Some(block) = live.remove(&(region, offset)) {
                        self.blocks[block].end = time;
                    }
                }
                What::Phase(unit, phase) => {
                    running = Some(Stretch { unit, phase, begin: time, end: time });
                }
                What::PhaseEnded(..) => {
                    let ended = running.take().map(|stretch| Stretch { end: time, ..stretch });
                    self.stretches.extend(ended);
                }
                _ => {}
            }
        }
        let end = self.end;
        let open = self.blocks[first..].iter_mut().filter(|block| block.end == OPEN);
        open.for_each(|block| block.end = end);
        self.stretches.extend(running.map(|stretch| Stretch { end, ..stretch }));
        Ok(())
    }

    fn number(&mut self, block: &Block, name: &Name) -> u32 {
        let Block { region, unit, layer, .. } = *block;
        let owner = Owner { region, unit, layer, name: name.clone() };
        let next = self.owners.len() as u32;
        let number = *self.numbers.entry(owner.clone()).or_insert(next);
        if number == next {
            self.owners.push(owner);
        }
        number
    }
}
