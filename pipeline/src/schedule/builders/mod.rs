//! The schedules, each in one file.
//!
//! Every schedule of whole forwards and backwards turns out to be three things: in which order
//! units run forward, in which order they run backward, and how many are in flight on a rank
//! before the first one runs backward. [`Order`](super::Order) does the rest for all of them.

mod gpipe;
mod interleaved;
mod one_forward_one_backward;
mod slimpipe;

use super::{Dimensions, Result, ScheduleError, ScheduleKind, Unit};

/// What a schedule decides. Positions count units from 0 to m n v - 1.
pub(super) trait Builder: Sync {
    /// Whether the schedule exists for these numbers, which are all at least one.
    fn check(&self, dimensions: Dimensions) -> Result<()>;

    /// The unit at `position` of the forward order; the same on every rank.
    fn forward(&self, dimensions: Dimensions, position: u32) -> Unit;

    /// The unit at `position` of the backward order; the same on every rank.
    fn backward(&self, dimensions: Dimensions, position: u32) -> Unit;

    /// Units in flight on `rank` when it begins to run backward, if the step has that many.
    fn warm_up(&self, dimensions: Dimensions, rank: u32) -> u64;

    /// Consecutive units that run through one chunk before the rank turns to its next chunk.
    fn group(&self, dimensions: Dimensions) -> u32;
}

/// The builder of a kind.
pub(super) fn of(kind: ScheduleKind) -> &'static dyn Builder {
    match kind {
        ScheduleKind::SlimPipe => &slimpipe::SlimPipe,
        ScheduleKind::GPipe => &gpipe::GPipe,
        ScheduleKind::OneForwardOneBackward => &one_forward_one_backward::OneForwardOneBackward,
        ScheduleKind::InterleavedOneForwardOneBackward => &interleaved::Interleaved,
    }
}

/// The unit of a schedule that knows microbatches only.
fn whole(microbatch: u32) -> Unit {
    Unit { microbatch, slice: 0, chunk: 0 }
}

fn check_whole(kind: ScheduleKind, dimensions: Dimensions) -> Result<()> {
    match dimensions.slices {
        1 => Ok(()),
        slices => Err(ScheduleError::SlicesUnsupported { kind, slices }),
    }
}

fn check_one_chunk(kind: ScheduleKind, dimensions: Dimensions) -> Result<()> {
    match dimensions.chunks {
        1 => Ok(()),
        chunks => Err(ScheduleError::ChunksUnsupported { kind, chunks }),
    }
}
