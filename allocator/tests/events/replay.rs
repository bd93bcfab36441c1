//! A memory, followed by its log alone.

use std::collections::{BTreeMap, BTreeSet};

use slimpipe_allocator::events::{Block, Log, What};
use slimpipe_allocator::{Gauge, Region, UnitId};

#[derive(Default)]
pub struct Replay {
    /// Live blocks: where they begin, and their bytes.
    pub live: BTreeMap<(Region, u64), u64>,
    /// Each block that was ever placed, in order: its region, offset and bytes.
    pub placed: Vec<(Region, u64, u64)>,
    pub active: Gauge,
    pub committed: [u64; Region::COUNT],
    pub units: BTreeSet<UnitId>,
    pub most_units: u64,
    pub refused: u64,
    /// What was asked for, of live blocks.
    pub requested: BTreeMap<(Region, u64), u64>,
    pub hits: u64,
    /// What plans give: by chunk, slice and region.
    pub planned: BTreeMap<(u32, u32, Region), u64>,
    pub phases: u64,
}

impl Replay {
    /// Follows a whole log.
    pub fn of(log: &Log) -> Self {
        assert!(log.events.is_sorted_by_key(|event| event.time));
        let mut replay = Self::default();
        log.events.iter().for_each(|event| replay.step(&event.what));
        replay
    }

    fn step(&mut self, what: &What) {
        match *what {
            What::Alloc(Block { region, offset, bytes, requested, unplanned, .. }) => {
                let before = self.live.range(..(region, offset + bytes)).next_back();
                let apart = before
                    .is_none_or(|(&(other, start), &len)| other != region || start + len <= offset);
                assert!(apart, "{what:?} falls on {before:?}");
                assert!(offset + bytes <= self.committed[region.index()], "{what:?}");
                self.live.insert((region, offset), bytes);
                self.placed.push((region, offset, bytes));
                self.active.current += bytes;
                self.active.peak = self.active.peak.max(self.active.current);
                self.requested.insert((region, offset), requested);
                self.hits += u64::from(unplanned);
            }
            What::Free { region, offset, bytes } => {
                assert_eq!(self.live.remove(&(region, offset)), Some(bytes), "{what:?}");
                self.requested.remove(&(region, offset));
                self.active.current -= bytes;
            }
            What::UnitOpened(unit) => {
                assert!(self.units.insert(unit));
                self.most_units = self.most_units.max(self.units.len() as u64);
            }
            What::UnitClosed(unit) => assert!(self.units.remove(&unit)),
            What::Phase(unit, _) => {
                assert!(self.units.contains(&unit));
                self.phases += 1;
            }
            What::PhaseEnded(..) => self.phases -= 1,
            What::Offloaded(unit) | What::Restored(unit) => assert!(self.units.contains(&unit)),
            What::Planned { chunk, slice, region, bytes } => {
                self.planned.insert((chunk, slice, region), bytes);
            }
            What::Step(_) => {}
            What::Committed { region, bytes } => self.committed[region.index()] = bytes,
            What::Refused { .. } => self.refused += 1,
            _ => panic!("{what:?} is new to this test"),
        }
    }
}
