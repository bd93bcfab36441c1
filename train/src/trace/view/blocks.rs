//! A rank's logs as blocks with a lifetime and a place: what a map of memory over time shows.

use std::collections::HashMap;
use std::ops::Range;

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

/// Everything that a page shows of one rank. Times in nanoseconds since 1970, places in bytes.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub blocks: Vec<Lived>,
    pub owners: Vec<Owner>,
    pub stretches: Vec<Stretch>,
    /// Where each region's blocks ever ended, in the order of [`Region::ALL`].
    pub extents: [u64; Region::COUNT],
    /// Most live bytes, and when there were first as many.
    pub peak: u64,
    pub peaked: u64,
    /// When each log began, and when its last event happened.
    pub logs: Vec<Range<u64>>,
    numbers: HashMap<Owner, u32>,
}

/// A block from its placing to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lived {
    pub begin: u64,
    pub end: u64,
    /// In its region.
    pub place: u64,
    pub bytes: u64,
    /// An index into the owners.
    pub owner: u32,
}

/// The end of blocks that are still live.
const OPEN: u64 = u64::MAX;

impl Blocks {
    /// Adds a log. Blocks that are live at its end end with it.
    pub fn add(&mut self, log: &mut Playback) -> Result<(), TraceError> {
        let began = log.began();
        let mut end = began;
        let first = self.blocks.len();
        // Numbers of names are a log's own.
        let mut known = HashMap::new();
        let mut running: Option<Stretch> = None;
        while let Some(Event { time, what, freed }) = log.next()? {
            let time = began.saturating_add(time);
            end = end.max(time);
            let active = log.memory().active().current;
            if active > self.peak {
                (self.peak, self.peaked) = (active, time);
            }
            match what {
                What::Alloc(block) => {
                    let Block { region, offset: place, bytes, unit, layer, name, .. } = block;
                    let owner = *known.entry((region, unit, layer, name)).or_insert_with(|| {
                        self.number(Owner { region, unit, layer, name: log.name(name).clone() })
                    });
                    let reached = &mut self.extents[region.index()];
                    *reached = (*reached).max(place + bytes);
                    self.blocks.push(Lived { begin: time, end: OPEN, place, bytes, owner });
                }
                What::Free { .. } => {
                    if let Some(held) = freed {
                        self.blocks[first + held.number as usize].end = time;
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
        let open = self.blocks[first..].iter_mut().filter(|block| block.end == OPEN);
        open.for_each(|block| block.end = end);
        self.stretches.extend(running.map(|stretch| Stretch { end, ..stretch }));
        self.logs.push(began..end);
        Ok(())
    }

    /// When the first log began.
    pub fn begin(&self) -> u64 {
        self.logs.iter().map(|log| log.start).min().unwrap_or(0)
    }

    /// When the last event happened.
    pub fn end(&self) -> u64 {
        self.logs.iter().map(|log| log.end).max().unwrap_or(0)
    }

    fn number(&mut self, owner: Owner) -> u32 {
        let next = self.owners.len() as u32;
        let number = *self.numbers.entry(owner.clone()).or_insert(next);
        if number == next {
            self.owners.push(owner);
        }
        number
    }
}
