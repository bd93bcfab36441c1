//! Interleaved 1F1B (Megatron-LM): v chunks per rank, microbatches in groups of p that go through
//! chunk 0, then chunk 1, and so on; backward visits the chunks in reverse.
//!
//! Rank r runs (v-1) p + 2 (p-1-r) units ahead, then one forward, one backward; so one more is in
//! flight at its first backward.

use super::{Builder, Dimensions, Result, ScheduleError, ScheduleKind, Unit, check_whole};

pub(super) struct Interleaved;

impl Builder for Interleaved {
    fn check(&self, dimensions: Dimensions) -> Result<()> {
        check_whole(ScheduleKind::InterleavedOneForwardOneBackward, dimensions)?;
        let Dimensions { ranks, microbatches, .. } = dimensions;
        if microbatches.is_multiple_of(ranks) {
            return Ok(());
        }
        let below = microbatches / ranks * ranks;
        let above = u64::from(below) + u64::from(ranks);
        let hint = if below == 0 { format!("{above}") } else { format!("{below} or {above}") };
        Err(ScheduleError::UnequalGroups { microbatches, ranks, hint })
    }

    fn forward(&self, dimensions: Dimensions, position: u32) -> Unit {
        let Dimensions { ranks, chunks, .. } = dimensions;
        let cycle = ranks * chunks;
        Unit {
            microbatch: position / cycle * ranks + position % ranks,
            slice: 0,
            chunk: position % cycle / ranks,
        }
    }

    fn backward(&self, dimensions: Dimensions, position: u32) -> Unit {
        let unit = self.forward(dimensions, position);
        Unit { chunk: dimensions.chunks - 1 - unit.chunk, ..unit }
    }

    fn warm_up(&self, dimensions: Dimensions, rank: u32) -> u64 {
        let Dimensions { ranks, chunks, .. } = dimensions;
        let (p, v, r) = (u64::from(ranks), u64::from(chunks), u64::from(rank));
        (v - 1) * p + 2 * (p - 1 - r) + 1
    }

    fn group(&self, dimensions: Dimensions) -> u32 {
        dimensions.ranks
    }
}
