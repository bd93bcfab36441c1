//! 1F1B (PipeDream-flush, DAPPLE): rank r runs p-1-r microbatches ahead, then one forward, one
//! backward; so p-r are in flight at its first backward.

use super::{Builder, Dimensions, Result, ScheduleKind, Unit, check_one_chunk, check_whole, whole};

pub(super) struct OneForwardOneBackward;

impl Builder for OneForwardOneBackward {
    fn check(&self, dimensions: Dimensions) -> Result<()> {
        check_whole(ScheduleKind::OneForwardOneBackward, dimensions)?;
        check_one_chunk(ScheduleKind::OneForwardOneBackward, dimensions)
    }

    fn forward(&self, _: Dimensions, position: u32) -> Unit {
        whole(position)
    }

    fn backward(&self, _: Dimensions, position: u32) -> Unit {
        whole(position)
    }

    fn warm_up(&self, dimensions: Dimensions, rank: u32) -> u64 {
        (dimensions.ranks - rank).into()
    }

    fn group(&self, _: Dimensions) -> u32 {
        1
    }
}
