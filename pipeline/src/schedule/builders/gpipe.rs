use super::super::size::Size;
use super::super::{ScheduleError, ScheduleKind, Unit};
use super::alternate::Alternating;

/// All forwards, then all backwards: of microbatches (GPipe, arXiv 1811.06965), or of their slices
/// (TeraPipe, arXiv 2102.07988).
#[derive(Debug)]
pub(super) struct GPipe {
    size: Size,
}

impl GPipe {
    pub(super) fn new(kind: ScheduleKind, size: Size) -> Result<Self, ScheduleError> {
        if kind == ScheduleKind::GPipe {
            size.expect_unsliced(kind)?;
        }
        size.expect_unchunked(kind)?;
        Ok(Self { size })
    }
}

impl Alternating for GPipe {
    fn units(&self) -> u64 {
        self.size.units()
    }

    fn warm_up(&self, _rank: u32) -> u64 {
        self.units()
    }

    fn forward(&self, k: u64) -> Unit {
        self.size.slice(k)
    }

    fn backward(&self, k: u64) -> Unit {
        self.size.slice(self.units() - 1 - k)
    }

    fn keeps_step(&self) -> bool {
        true
    }
}
