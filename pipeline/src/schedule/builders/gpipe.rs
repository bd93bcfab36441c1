//! GPipe: all microbatches forward, then all backward, the last one first.

use super::{Builder, Dimensions, Result, ScheduleKind, Unit, check_one_chunk, check_whole, whole};

pub(super) struct GPipe;

impl Builder for GPipe {
    fn check(&self, dimensions: Dimensions) -> Result<()> {
        check_whole(ScheduleKind::GPipe, dimensions)?;
        check_one_chunk(ScheduleKind::GPipe, dimensions)
    }

    fn forward(&self, _: Dimensions, position: u32) -> Unit {
        whole(position)
    }

    fn backward(&self, dimensions: Dimensions, position: u32) -> Unit {
        whole(dimensions.microbatches - 1 - position)
    }

    fn warm_up(&self, dimensions: Dimensions, _: u32) -> u64 {
        dimensions.microbatches.into()
    }

    fn group(&self, _: Dimensions) -> u32 {
        1
    }
}
