use super::super::size::Size;
use super::super::{ScheduleError, ScheduleKind, Unit};
use super::{Builder, microbatch};

/// All forwards, then all backwards (arXiv 1811.06965).
#[derive(Debug)]
pub(super) struct GPipe {
    units: u64,
}

impl GPipe {
    pub(super) fn new(size: Size) -> Result<Self, ScheduleError> {
        size.expect_unsliced(ScheduleKind::GPipe)?;
        size.expect_unchunked(ScheduleKind::GPipe)?;
        Ok(Self { units: size.units() })
    }
}

impl Builder for GPipe {
    fn warm_up(&self, _rank: u32) -> u64 {
        self.units
    }

    fn forward(&self, k: u64) -> Unit {
        microbatch(k)
    }

    fn backward(&self, k: u64) -> Unit {
        microbatch(self.units - 1 - k)
    }
}
