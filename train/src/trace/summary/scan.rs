//! The first reading: peaks of everything, and which event brought the highest.

use slimpipe_allocator::Region;
use slimpipe_allocator::events::What;

use super::holders::Holders;
use super::units::Units;
use super::{Peak, Refused, RegionSummary, StepSummary, Summary, seconds};
use crate::trace::{Event, Playback};

#[derive(Default)]
pub(super) struct Scan {
    events: u64,
    last: u64,
    allocations: u64,
    active_peak: u64,
    own_peak: u64,
    /// How many events there were up to the one that brought the peak, that one included.
    highest: Option<u64>,
    refused: Vec<Refused>,
    steps: Vec<StepSummary>,
    units: Units,
    holders: Holders,
}

impl Scan {
    /// Counts an event that `log` has just followed.
    pub fn see(&mut self, event: &Event, log: &Playback) {
        let memory = log.memory();
        self.events += 1;
        self.last = event.time;
        match event.what {
            What::Alloc(block) => {
                self.allocations += 1;
                if memory.active().current > self.active_peak {
                    self.active_peak = memory.active().current;
                    self.highest = Some(self.events);
                }
                let messages = memory.region(Region::Comm).active().current;
                self.own_peak = self.own_peak.max(memory.active().current - messages);
                self.units.place(&block);
                self.holders.place(&block, log);
                if let Some(step) = self.steps.last_mut() {
                    step.overflow_hits += u64::from(block.unplanned);
                }
            }
            What::Free { .. } => {
                if let Some(held) = &event.freed {
                    self.units.free(&held.block);
                    self.holders.free(&held.block);
                }
            }
            What::UnitClosed(unit) => self.units.close(unit),
            What::Planned { chunk, slice, region, bytes } => {
                self.units.plan(chunk, slice, region, bytes);
            }
            What::Step(step) => self.steps.push(StepSummary { step, ..StepSummary::default() }),
            What::Refused { bytes, name } => {
                let (name, step) = (log.name(name), memory.step());
                let (op, site) = (name.op().to_owned(), name.site().to_owned());
                self.refused.push(Refused { seconds: seconds(event.time), step, bytes, op, site });
            }
            _ => {}
        }
        if let Some(step) = self.steps.last_mut() {
            let held = |region| memory.region(region).active().current;
            let activations = held(Region::Slot) + held(Region::Kv);
            step.active_peak = step.active_peak.max(memory.active().current);
            step.activation_peak = step.activation_peak.max(activations);
            step.reserved_peak = step.reserved_peak.max(memory.reserved().current);
            step.in_flight_peak = step.in_flight_peak.max(memory.units().current);
        }
    }

    /// The number of the event after which most was live, counted from 1.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    pub fn finish(self, log: &Playback, peak: Option<Peak>) -> Summary {
        let memory = log.memory();
        let used = Region::ALL.into_iter().filter(|&region| {
            let state = memory.region(region);
            state.active().peak + state.reserved().peak > 0
        });
        let regions = used.map(|region| {
            let state = memory.region(region);
            RegionSummary {
                region: region.name(),
                active_peak: state.active().peak,
                reserved_peak: state.reserved().peak,
                at_peak: peak.as_ref().map_or(0, |peak| peak.regions[region.index()]),
                live_at_end: state.active().current,
            }
        });
        Summary {
            file: log.path().display().to_string(),
            rank: log.rank(),
            events: self.events,
            seconds: seconds(self.last),
            cut_at: log.cut_at(),
            active_peak: memory.active().peak,
            own_peak: self.own_peak,
            reserved_peak: memory.reserved().peak,
            in_flight_peak: memory.units().peak,
            overflow_hits: memory.overflow_hits(),
            allocations: self.allocations,
            live_at_end: memory.active().current,
            refused: self.refused,
            regions: regions.collect(),
            steps: self.steps,
            plans: self.units.finish(memory.region(Region::Transient).active().peak),
            peak,
            holders: self.holders.finish(),
        }
    }
}
