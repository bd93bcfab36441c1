use super::super::size::Size;
use super::super::{ScheduleError, ScheduleKind, Unit};
use super::alternate::Alternating;

/// 1F1B with several model chunks per rank (Megatron-LM, arXiv 2104.04473): groups of p microbatches
/// go through chunk 0, then the same through chunk 1, and so on.
#[derive(Debug)]
pub(super) struct Interleaved {
    size: Size,
}

impl Interleaved {
    pub(super) fn new(size: Size) -> Result<Self, ScheduleError> {
        size.expect_unsliced(ScheduleKind::Interleaved)?;
        let Size { microbatches, ranks, .. } = size;
        if !microbatches.is_multiple_of(ranks) {
            return Err(ScheduleError::UnevenMicrobatches { microbatches, ranks });
        }
        Ok(Self { size })
    }
}

impl Alternating for Interleaved {
    fn units(&self) -> u64 {
        self.size.units()
    }

    fn warm_up(&self, rank: u32) -> u64 {
        let (p, v) = (u64::from(self.size.ranks), u64::from(self.size.chunks));
        2 * self.size.after(rank) + (v - 1) * p + 1
    }

    fn forward(&self, k: u64) -> Unit {
        let group = u64::from(self.size.ranks);
        let round = group * u64::from(self.size.chunks);
        Unit {
            microbatch: (k / round * group + k % group) as u32,
            slice: 0,
            chunk: (k % round / group) as u32,
        }
    }

    /// The forward's order with the chunks reversed.
    fn backward(&self, k: u64) -> Unit {
        let unit = self.forward(k);
        Unit { chunk: self.size.chunks - 1 - unit.chunk, ..unit }
    }

    fn keeps_step(&self) -> bool {
        true
    }
}
