use super::{ScheduleError, ScheduleKind, Unit};

/// The largest count of anything: products of two then fit 32 bits, of four 64.
const LARGEST: u32 = u16::MAX as u32;

/// How large a step is: p, n, m and v of the literature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub ranks: u32,
    pub slices: u32,
    pub microbatches: u32,
    pub chunks: u32,
}

impl Size {
    /// Refuses counts that no schedule runs.
    pub fn check(self) -> Result<(), ScheduleError> {
        let counts = [
            (self.ranks, "parallel.pipeline"),
            (self.slices, "parallel.slices"),
            (self.microbatches, "train.microbatches"),
            (self.chunks, "parallel.chunks"),
            (self.ranks.saturating_mul(self.chunks), "parallel.pipeline times parallel.chunks"),
        ];
        match counts.into_iter().find(|(count, _)| !(1..=LARGEST).contains(count)) {
            Some((count, what)) => Err(ScheduleError::OutOfRange { what, count, largest: LARGEST }),
            None => Ok(()),
        }
    }

    /// Refuses counts of data ranks that cannot be.
    pub fn check_data_ranks(self, data_ranks: u32) -> Result<(), ScheduleError> {
        let all = data_ranks.saturating_mul(self.ranks);
        let counts =
            [(data_ranks, "parallel.data"), (all, "parallel.data times parallel.pipeline")];
        match counts.into_iter().find(|(count, _)| !(1..=LARGEST).contains(count)) {
            Some((count, what)) => Err(ScheduleError::OutOfRange { what, count, largest: LARGEST }),
            None => Ok(()),
        }
    }

    /// For schedules that do not cut sequences.
    pub fn expect_unsliced(self, kind: ScheduleKind) -> Result<(), ScheduleError> {
        match self.slices {
            1 => Ok(()),
            slices => Err(ScheduleError::Unsliced { kind: kind.name(), slices }),
        }
    }

    /// For schedules with one model chunk per rank.
    pub fn expect_unchunked(self, kind: ScheduleKind) -> Result<(), ScheduleError> {
        match self.chunks {
            1 => Ok(()),
            chunks => Err(ScheduleError::Unchunked { kind: kind.name(), chunks }),
        }
    }

    /// For schedules that lay two chunks per rank in a V.
    pub fn expect_two_chunks(self, kind: ScheduleKind) -> Result<(), ScheduleError> {
        match self.chunks {
            2 => Ok(()),
            chunks => Err(ScheduleError::NotTwoChunks { kind: kind.name(), chunks }),
        }
    }

    /// The `k`-th slice of the step, for schedules with one chunk per rank.
    pub fn slice(self, k: u64) -> Unit {
        let slices = u64::from(self.slices);
        Unit { microbatch: (k / slices) as u32, slice: (k % slices) as u32, chunk: 0 }
    }

    /// Units of one microbatch on a rank, n v.
    pub fn per_microbatch(self) -> u64 {
        u64::from(self.slices) * u64::from(self.chunks)
    }

    /// Units a rank runs in a step, m n v.
    pub fn units(self) -> u64 {
        u64::from(self.microbatches) * self.per_microbatch()
    }

    /// Ranks after `rank`, p - 1 - r.
    pub fn after(self, rank: u32) -> u64 {
        u64::from(self.ranks - 1 - rank)
    }
}
