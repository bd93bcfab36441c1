use super::super::size::Size;
use super::super::{ScheduleError, ScheduleKind, Unit};
use super::{Builder, microbatch};

/// One forward, one backward (PipeDream-flush, DAPPLE): a microbatch's backward begins as soon as
/// its forward has passed all ranks.
#[derive(Debug)]
pub(super) struct OneFOneB {
    size: Size,
}

impl OneFOneB {
    pub(super) fn new(size: Size) -> Result<Self, ScheduleError> {
        size.expect_unsliced(ScheduleKind::OneFOneB)?;
        size.expect_unchunked(ScheduleKind::OneFOneB)?;
        Ok(Self { size })
    }
}

impl Builder for OneFOneB {
    fn warm_up(&self, rank: u32) -> u64 {
        self.size.after(rank) + 1
    }

    fn forward(&self, k: u64) -> Unit {
        microbatch(k)
    }

    fn backward(&self, k: u64) -> Unit {
        microbatch(k)
    }
}
