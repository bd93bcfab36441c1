//! A way to train: where everything goes, in which order it runs, and what is not kept.

use std::fmt;

use slimpipe_pipeline::schedule::{Exchange, Schedule, ScheduleKind};

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
    /// How ranks share attention.
    pub exchange: Exchange,
    /// Whether all pipeline ranks share embedding, output layer and loss.
    pub vocabulary: bool,
}

impl Setup {
    /// Nothing computed again, nothing offloaded, nothing shared.
    pub fn new(layout: Layout, schedule: ScheduleKind) -> Self {
        let (recompute, exchange) = (Recompute::None, Exchange::Off);
        Self { layout, schedule, recompute, offload: 0.0, exchange, vocabulary: false }
    }

    /// With attention and vocabulary shared among pipeline ranks where they can be: with SlimPipe, on
    /// several ranks; attention if there are as many slices and all stages are equal.
    #[must_use]
    pub fn shared(self, work: &Workload) -> Self {
        let Layout { pipeline, slices, .. } = self.layout;
        let vocabulary = self.schedule == ScheduleKind::SlimPipe && pipeline > 1;
        let layers = work.model.dense.num_hidden_layers as u64;
        let exchanges =
            vocabulary && slices >= pipeline && layers.is_multiple_of(self.layout.stages());
        let exchange = if exchanges { Exchange::Balanced } else { Exchange::Off };
        Self { vocabulary, exchange, ..self }
    }

    /// The schedule of each pipeline.
    ///
    /// # Errors
    /// The batch does not divide, or the schedule does not run this.
    pub fn schedule(&self, work: &Workload) -> Result<Schedule> {
        Ok(self.order(work)?.with_exchange(self.exchange)?)
    }

    /// The same without exchange, whose table takes much longer to make than all else.
    pub(super) fn order(&self, work: &Workload) -> Result<Schedule> {
        let Layout { context, pipeline, data, slices, chunks, .. } = self.layout;
        if !work.batch.is_multiple_of(data) {
            let what = format!("{} sequences do not divide among d={data} pipelines", work.batch);
            return Err(Error::setting("--batch", what));
        }
        // Context parallel ranks run the same programs too, and add their gradients.
        let copies = data * context;
        Ok(Schedule::new(self.schedule, pipeline, slices, work.batch / data, chunks)?
            .with_data_ranks(copies)?
            .with_vocabulary(self.vocabulary)?)
    }

    /// Slices that pass through a chunk before the next one begins: the smallest divisor of n that
    /// is at least p.
    pub(super) fn group(&self) -> u32 {
        let Layout { pipeline: p, slices: n, .. } = self.layout;
        (p..=n).find(|&group| n.is_multiple_of(group)).unwrap_or(n)
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.schedule, self.layout)?;
        if self.recompute != Recompute::None {
            write!(f, ", recompute {}", self.recompute)?;
        }
        if self.offload > 0.0 {
            write!(f, ", offload {}", self.offload)?;
        }
        Ok(())
    }
}
