//! A way to train: where everything goes, in which order it runs, and what is not kept.

use std::fmt;
use std::str::FromStr;

use slimpipe_pipeline::schedule::{Schedule, ScheduleKind};

use super::{Layout, Workload};
use crate::{Error, Result};

/// What forward does not keep, and backward computes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Recompute {
    /// Everything is kept.
    #[default]
    None,
    /// The MLP's first products and its activation are computed again.
    Partial,
    /// Whole layers are; only their inputs, keys and values are kept.
    Full,
}

impl Recompute {
    /// All ways, from most kept to least.
    pub const ALL: [Self; 3] = [Self::None, Self::Partial, Self::Full];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Partial => "partial",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Recompute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Recompute {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|way| way.name() == name);
        known.ok_or_else(|| format!("`{name}` is none of none, partial, full"))
    }
}

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
