use super::super::size::Size;
use super::super::{ScheduleError, Unit};
use super::alternate::Alternating;

/// Slice-level 1F1B with uniform slices (arXiv 2504.14519), plain or with several chunks per rank.
///
/// Twice as many extra units as in classic 1F1B are in flight, 2(p - 1 - r): so all ranks run
/// forwards at the same time and backwards at the same time, each one unit behind its predecessor,
/// and every message has the length of a unit to travel.
#[derive(Debug)]
pub(in super::super) struct SlimPipe {
    size: Size,
    /// Slices that pass through a chunk before the next chunk begins: the fewest that divide n and
    /// keep all ranks busy.
    group: u32,
}

impl SlimPipe {
    pub(in super::super) fn new(size: Size) -> Result<Self, ScheduleError> {
        let Size { ranks, slices, chunks, .. } = size;
        if chunks == 1 {
            return Ok(Self { size, group: slices });
        }
        let group = (ranks..=slices).find(|&group| slices.is_multiple_of(group));
        let group = group.ok_or(ScheduleError::TooFewSlices { chunks, slices, ranks })?;
        Ok(Self { size, group })
    }
}

impl Alternating for SlimPipe {
    fn units(&self) -> u64 {
        self.size.units()
    }

    fn warm_up(&self, rank: u32) -> u64 {
        self.size.per_microbatch() + 2 * self.size.after(rank)
    }

    fn forward(&self, k: u64) -> Unit {
        let (per_microbatch, group) = (self.size.per_microbatch(), u64::from(self.group));
        let (i, round) = (k % per_microbatch, group * u64::from(self.size.chunks));
        Unit {
            microbatch: (k / per_microbatch) as u32,
            slice: (i / round * group + i % group) as u32,
            chunk: (i % round / group) as u32,
        }
    }

    /// Each microbatch exactly in reverse: keys and values of a slice get gradients from all later
    /// slices, so the last slice goes first.
    fn backward(&self, k: u64) -> Unit {
        let per_microbatch = self.size.per_microbatch();
        let (microbatch, i) = (k / per_microbatch, k % per_microbatch);
        self.forward(microbatch * per_microbatch + per_microbatch - 1 - i)
    }

    fn keeps_step(&self) -> bool {
        true
    }

    /// From the last rank back to the first, a chunk's output waits until the rest of its group has
    /// passed.
    fn backlog(&self) -> u32 {
        match self.size.chunks {
            1 => 1,
            _ => self.group - self.size.ranks + 1,
        }
    }
}
