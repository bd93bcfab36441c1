//! What a log comes to: peaks, who held memory at the highest, plans beside what was held.

mod holders;
mod peak;
mod scan;
mod units;

use std::path::Path;

use serde::Serialize;
use slimpipe_allocator::{Region, UnitId};

pub use holders::Holder;
pub use peak::{Fragmentation, Owner, Peak, Site, kind};
pub use units::UnitPlan;

use super::{Playback, TraceError};
use scan::Scan;

/// What one rank's log comes to. All sizes are in bytes, all times in seconds since the log began.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The file.
    pub file: String,
    /// The rank.
    pub rank: u32,
    /// Events in the log.
    pub events: u64,
    /// Time of the last one.
    pub seconds: f64,
    /// Where the file was cut, if it ends within a record.
    pub cut_at: Option<u64>,
    /// Most live bytes, over the whole log.
    pub active_peak: u64,
    /// Most live bytes apart from messages, whose number depends on which rank waits for which: the same
    /// in every run of one program.
    pub own_peak: u64,
    /// Most committed bytes.
    pub reserved_peak: u64,
    /// Most units between forward and backward.
    pub in_flight_peak: u64,
    /// Allocations in units and tasks that no plan foresaw.
    pub overflow_hits: u64,
    /// Blocks placed.
    pub allocations: u64,
    /// Bytes live at the end.
    pub live_at_end: u64,
    /// Requests for which there was no memory; the last one may have ended the run.
    pub refused: Vec<Refused>,
    /// Each region that was ever used.
    pub regions: Vec<RegionSummary>,
    /// Each training step, as the allocator counts it: from its begin to the next one's.
    pub steps: Vec<StepSummary>,
    /// What plans gave units, and what those held.
    pub plans: Vec<UnitPlan>,
    /// The moment at which most was live; `None` if nothing ever was.
    pub peak: Option<Peak>,
    /// Each (region, layer, operation), with the most it ever held at once, largest first.
    pub holders: Vec<Holder>,
}

/// One region over a whole log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegionSummary {
    /// Its name.
    pub region: &'static str,
    /// Most live bytes.
    pub active_peak: u64,
    /// Most committed bytes.
    pub reserved_peak: u64,
    /// Live bytes when all regions together were at their peak.
    pub at_peak: u64,
    /// Live bytes at the end.
    pub live_at_end: u64,
}

/// The memory of one training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StepSummary {
    /// The step.
    pub step: u64,
    /// Most live bytes.
    pub active_peak: u64,
    /// Most live bytes that forwards saved for backwards.
    pub activation_peak: u64,
    /// Most committed bytes.
    pub reserved_peak: u64,
    /// Most units in flight.
    pub in_flight_peak: u64,
    /// Allocations in units and tasks that no plan foresaw.
    pub overflow_hits: u64,
}

/// A request for which there was no memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refused {
    /// When.
    pub seconds: f64,
    /// The training step.
    pub step: Option<u64>,
    /// Bytes asked for.
    pub bytes: u64,
    /// The operation.
    pub op: String,
    /// The Rust code, as `file:line`.
    pub site: String,
}

impl Summary {
    /// Sums up the log at `path`. It is read twice: for its peaks, and up to the highest.
    ///
    /// # Errors
    /// It cannot be read, or tells what cannot be.
    pub fn of(path: &Path) -> Result<Self, TraceError> {
        let mut log = Playback::open(path)?;
        let mut scan = Scan::default();
        while let Some(event) = log.next()? {
            scan.see(&event, &log);
        }
        let peak = scan.highest().map(|event| Peak::at(path, event)).transpose()?;
        Ok(scan.finish(&log, peak))
    }

    /// A region that was used.
    pub fn region(&self, region: Region) -> Option<&RegionSummary> {
        self.regions.iter().find(|summary| summary.region == region.name())
    }

    /// The first and last step that the log tells of.
    pub fn step_range(&self) -> Option<(u64, u64)> {
        Some((self.steps.first()?.step, self.steps.last()?.step))
    }
}

/// Seconds of a time in nanoseconds.
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// A unit as JSON has it: `mb0/slice3/chunk0`.
fn unit_name<S: serde::Serializer>(unit: &Option<UnitId>, to: S) -> Result<S::Ok, S::Error> {
    unit.map(|unit| unit.to_string()).serialize(to)
}
