use super::super::size::Size;
use super::super::{ScheduleError, ScheduleKind, Unit};
use super::alternate::Alternating;

/// One forward, one backward: of microbatches (PipeDream-flush, DAPPLE), whose backward begins as
/// soon as their forward has passed all ranks, or of their slices (Seq1F1B, arXiv 2406.03488).
#[derive(Debug)]
pub(super) struct OneFOneB {
    size: Size,
}

impl OneFOneB {
    pub(super) fn new(kind: ScheduleKind, size: Size) -> Result<Self, ScheduleError> {
        if kind == ScheduleKind::OneFOneB {
            size.expect_unsliced(kind)?;
        }
        size.expect_unchunked(kind)?;
        Ok(Self { size })
    }
}

impl Alternating for OneFOneB {
    fn units(&self) -> u64 {
        self.size.units()
    }

    fn warm_up(&self, rank: u32) -> u64 {
        self.size.per_microbatch() + self.size.after(rank)
    }

    fn forward(&self, k: u64) -> Unit {
        self.size.slice(k)
    }

    /// Slices last in, first out within their microbatch.
    fn backward(&self, k: u64) -> Unit {
        let Unit { slice, .. } = self.size.slice(k);
        Unit { slice: self.size.slices - 1 - slice, ..self.size.slice(k) }
    }
}
