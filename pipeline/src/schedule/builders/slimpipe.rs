//! SlimPipe: one-forward-one-backward on slices (arXiv 2504.14519).
//!
//! A microbatch runs forward in groups of g slices: the group through chunk 0, then through chunk 1,
//! and so on, then the next group. It runs backward in exactly the reverse order, so that slices
//! end last in, first out, as the K/V gradients of a slice come from all later slices.
//!
//! Rank r begins to run backward with n v + 2 (p-1-r) units in flight. The 2 (not 1F1B's 1) makes
//! all ranks run forward at the same time and backward at the same time, each one unit behind its
//! predecessor: every message has a slot's time to travel.

use super::{Builder, Dimensions, Result, ScheduleError, Unit};

pub(super) struct SlimPipe;

impl SlimPipe {
    /// The unit at `position` of one microbatch's forward order.
    fn within(self, dimensions: Dimensions, microbatch: u32, position: u32) -> Unit {
        let group = self.group(dimensions);
        let cycle = group * dimensions.chunks;
        Unit {
            microbatch,
            slice: position / cycle * group + position % group,
            chunk: position % cycle / group,
        }
    }
}

impl Builder for SlimPipe {
    fn check(&self, dimensions: Dimensions) -> Result<()> {
        let Dimensions { ranks, slices, chunks, .. } = dimensions;
        if chunks > 1 && slices < ranks {
            return Err(ScheduleError::TooFewSlices { slices, ranks, chunks });
        }
        Ok(())
    }

    fn forward(&self, dimensions: Dimensions, position: u32) -> Unit {
        let each = dimensions.units_per_microbatch();
        Self.within(dimensions, position / each, position % each)
    }

    fn backward(&self, dimensions: Dimensions, position: u32) -> Unit {
        let each = dimensions.units_per_microbatch();
        Self.within(dimensions, position / each, each - 1 - position % each)
    }

    fn warm_up(&self, dimensions: Dimensions, rank: u32) -> u64 {
        u64::from(dimensions.units_per_microbatch()) + 2 * u64::from(dimensions.ranks - 1 - rank)
    }

    /// The smallest divisor of n that is at least p: then chunk 0's output is back at rank 0 by the
    /// time the group reaches chunk 1. With one chunk groups make no difference.
    fn group(&self, dimensions: Dimensions) -> u32 {
        let Dimensions { ranks, slices, chunks, .. } = dimensions;
        if chunks == 1 {
            return slices;
        }
        (ranks..=slices).find(|&group| slices.is_multiple_of(group)).unwrap_or(slices)
    }
}
