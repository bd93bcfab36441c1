//! A schedule: its kind, its numbers, its placement.

use super::builders::{self, Builder};
use super::{Dimensions, Order, Placement, Program, Result, ScheduleKind};

/// A pipeline schedule that exists: its numbers have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    kind: ScheduleKind,
    dimensions: Dimensions,
    placement: Placement,
    tied: bool,
}

impl Schedule {
    /// A schedule for p `ranks`, n `slices` per sequence, m `microbatches` per step and v `chunks`
    /// of layers per rank.
    ///
    /// # Errors
    /// A number is zero, or the schedule does not exist for them: `slimpipe` with v > 1 needs
    /// n >= p; `gpipe` and `1f1b` need n = v = 1; `interleaved-1f1b` needs n = 1 and p | m.
    pub fn new(
        kind: ScheduleKind,
        ranks: u32,
        slices: u32,
        microbatches: u32,
        chunks: u32,
    ) -> Result<Self> {
        let dimensions = Dimensions { ranks, slices, microbatches, chunks };
        dimensions.check()?;
        builders::of(kind).check(dimensions)?;
        Ok(Self { kind, dimensions, placement: Placement::round_robin(dimensions), tied: false })
    }

    /// The same schedule for a model whose first and last stage share a parameter (a tied
    /// embedding): if they are on two ranks, these add its gradients at the end of the step.
    #[must_use]
    pub fn with_tied_ends(mut self, tied: bool) -> Self {
        self.tied = tied;
        self
    }

    /// Which schedule it is.
    pub fn kind(&self) -> ScheduleKind {
        self.kind
    }

    /// All four numbers.
    pub fn dimensions(&self) -> Dimensions {
        self.dimensions
    }

    /// Pipeline ranks, p.
    pub fn ranks(&self) -> u32 {
        self.dimensions.ranks
    }

    /// Slices per sequence, n.
    pub fn slices(&self) -> u32 {
        self.dimensions.slices
    }

    /// Microbatches per step, m.
    pub fn microbatches(&self) -> u32 {
        self.dimensions.microbatches
    }

    /// Chunks of layers per rank, v.
    pub fn chunks(&self) -> u32 {
        self.dimensions.chunks
    }

    /// Parts the model is dealt to, p v.
    pub fn stages(&self) -> u32 {
        self.dimensions.stages()
    }

    /// Whether the first and the last stage share a parameter.
    pub fn has_tied_ends(&self) -> bool {
        self.tied
    }

    /// Which rank holds which stage.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The forwards and backwards of `rank`.
    ///
    /// # Panics
    /// There is no such rank.
    pub fn order(&self, rank: u32) -> Order<'_> {
        Order::new(self, rank)
    }

    /// The program of `rank` for one step.
    ///
    /// # Panics
    /// There is no such rank.
    pub fn program(&self, rank: u32) -> Program<'_> {
        Program::new(self, rank)
    }

    /// Whom `rank` adds the tied parameter's gradient with, if at all.
    pub(super) fn tied_peer(&self, rank: u32) -> Option<u32> {
        if self.tied { self.placement.tied_peer(rank) } else { None }
    }

    pub(super) fn builder(&self) -> &'static dyn Builder {
        builders::of(self.kind)
    }
}
