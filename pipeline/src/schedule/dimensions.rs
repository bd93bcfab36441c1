//! The four numbers of a schedule.

use super::{Result, ScheduleError};

/// The size of a pipeline and of a step: p, n, m and v.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dimensions {
    /// Pipeline ranks, p.
    pub ranks: u32,
    /// Slices per sequence, n.
    pub slices: u32,
    /// Microbatches (sequences) per step, m.
    pub microbatches: u32,
    /// Chunks of layers per rank, v.
    pub chunks: u32,
}

impl Dimensions {
    /// The most units, stages or in-flight units a schedule may have; every count then fits u32.
    pub const MAX_UNITS: u32 = 1 << 30;

    /// Units each rank runs in a step, m n v.
    pub fn units(self) -> u32 {
        self.microbatches * self.units_per_microbatch()
    }

    /// Units each rank runs per microbatch, n v.
    pub fn units_per_microbatch(self) -> u32 {
        self.slices * self.chunks
    }

    /// Parts the model is dealt to, p v.
    pub fn stages(self) -> u32 {
        self.ranks * self.chunks
    }

    /// Checks that every number is at least one and that their products stay in range.
    pub(super) fn check(self) -> Result<()> {
        let Self { ranks, slices, microbatches, chunks } = self;
        for (what, setting, value) in [
            ("ranks", "parallel.pipeline", ranks),
            ("slices", "parallel.slices", slices),
            ("microbatches", "train.microbatches", microbatches),
            ("chunks", "parallel.chunks", chunks),
        ] {
            if value == 0 {
                return Err(ScheduleError::Zero { what, setting });
            }
        }
        let product = |numbers: &[u32]| {
            numbers.iter().try_fold(1u64, |product, &number| product.checked_mul(number.into()))
        };
        let limit = u64::from(Self::MAX_UNITS);
        let fits = |count: Option<u64>| count.is_some_and(|count| count <= limit);
        if !fits(product(&[slices, microbatches, chunks])) || !fits(product(&[ranks, chunks])) {
            return Err(ScheduleError::TooLarge { dimensions: self });
        }
        Ok(())
    }
}
