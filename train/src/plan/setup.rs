//! A way to train: where everything goes, in which order it runs, and what is not kept.

use slimpipe_pipeline::schedule::{Schedule, ScheduleKind};

use super::{Layout, Workload};
use crate::model::Recompute;
use crate::{Error, Result};

/// A way to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setup {
    /// The mesh and the cuts.
    pub layout: Layout,
    /// The order of units.
    pub schedule: ScheduleKind,
    /// What is computed again.
    pub recompute: Recompute,
    /// The share of activations that is kept in the host's memory, 0 to 1.
    pub offload: f64,
}

impl Setup {
    /// Nothing computed again, nothing offloaded.
    pub fn new(layout: Layout, schedule: ScheduleKind) -> Self {
        Self { layout, schedule, recompute: Recompute::None, offload: 0.0 }
    }

    /// The schedule of each pipeline.
    ///
    /// # Errors
    /// The batch does not divide, or the schedule does not run this.
    pub fn schedule(&self, work: &Workload) -> Result<Schedule> {
        let Layout { pipeline, data, slices, chunks, .. } = self.layout;
        if !work.batch.is_multiple_of(data) {
            let what = format!("{} sequences do not divide among d={data} pipelines", work.batch);
            return Err(Error::setting("--batch", what));
        }
        Ok(Schedule::new(self.schedule, pipeline, slices, work.batch / data, chunks)?)
    }

    /// Slices that pass through a chunk before the next one begins: the smallest divisor of n that
    /// is at least p.
    pub(super) fn group(&self) -> u32 {
        let Layout { pipeline: p, slices: n, .. } = self.layout;
        (p..=n).find(|&group| n.is_multiple_of(group)).unwrap_or(n)
    }
}
