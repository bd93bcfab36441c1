use std::sync::Arc;

use super::builders::{Builder, builder};
use super::program::{Order, Program};
use super::size::Size;
use super::{Placement, ScheduleError, ScheduleKind};

/// A pipeline schedule: what every rank runs in one step.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: ScheduleKind,
    size: Size,
    builder: Arc<dyn Builder>,
    placement: Placement,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.size) == (other.kind, other.size)
    }
}

impl Eq for Schedule {}

impl Schedule {
    /// The schedule `kind` for `ranks` pipeline ranks (p), `slices` per sequence (n), `microbatches`
    /// per step (m) and `chunks` of the model per rank (v).
    ///
    /// # Errors
    /// A combination the schedule does not run; the message says which are.
    pub fn new(
        kind: ScheduleKind,
        ranks: u32,
        slices: u32,
        microbatches: u32,
        chunks: u32,
    ) -> Result<Self, ScheduleError> {
        let size = Size { ranks, slices, microbatches, chunks };
        let builder = builder(kind, size)?;
        let placement = builder.placement(size);
        Ok(Self { kind, size, builder, placement })
    }

    /// Which schedule this is.
    pub fn kind(&self) -> ScheduleKind {
        self.kind
    }

    /// Pipeline ranks, p.
    pub fn ranks(&self) -> u32 {
        self.size.ranks
    }

    /// Slices per sequence, n.
    pub fn slices(&self) -> u32 {
        self.size.slices
    }

    /// Microbatches per step, m.
    pub fn microbatches(&self) -> u32 {
        self.size.microbatches
    }

    /// Model chunks per rank, v.
    pub fn chunks(&self) -> u32 {
        self.size.chunks
    }

    /// Which rank runs which stage.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Units a rank runs in a step, m n v.
    pub fn units(&self) -> u64 {
        self.size.units()
    }

    /// The most units in flight on `rank`: its memory. A unit is in flight from its forward to the
    /// last part of its backward.
    pub fn in_flight_peak(&self, rank: u32) -> u64 {
        self.builder.in_flight_peak(rank)
    }

    /// The messages of one kind that must fit between two ranks: then no rank waits to send as long
    /// as forwards cost the same, and backwards, and parts of backwards.
    pub fn channel_capacity(&self) -> usize {
        self.builder.backlog() as usize
    }

    /// The order in which `rank` runs forwards and backwards, without messages.
    pub fn order(&self, rank: u32) -> Order<'_> {
        self.builder.order(rank)
    }

    /// The program of `rank`: its order, with messages where a neighbouring stage is on another rank
    /// (a neighbour on the same rank hands over in memory), and what ends a step.
    pub fn program(&self, rank: u32) -> Program<'_> {
        Program::new(self, rank)
    }
}
