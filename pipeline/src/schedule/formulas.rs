//! Closed forms. All of them are checked against what programs really do: the verifier counts
//! in-flight units and K/V gradients, the tests' simulator measures bubbles.
//!
//! p ranks, n slices, m microbatches, v chunks per rank, rank r, g the group of [`Schedule::group`].

use super::{Dimensions, Schedule};

impl Schedule {
    /// The most units of `rank` between forward and backward, which is also their number before its
    /// first backward.
    ///
    /// | schedule | units |
    /// |---|---|
    /// | slimpipe | min(n v + 2 (p-1-r), m n v) |
    /// | gpipe | m |
    /// | 1f1b | min(p - r, m) |
    /// | interleaved-1f1b | min((v-1) p + 2 (p-1-r) + 1, m v) |
    ///
    /// # Panics
    /// There is no such rank.
    pub fn in_flight_peak(&self, rank: u32) -> u32 {
        let dimensions = self.dimensions();
        assert!(rank < dimensions.ranks, "rank {rank} of {}", dimensions.ranks);
        let warm_up = self.builder().warm_up(dimensions, rank);
        u32::try_from(warm_up).unwrap_or(u32::MAX).min(dimensions.units())
    }

    /// The most activation memory of `rank`, as a multiple of what one whole sequence makes in the
    /// whole model (M_a): in-flight units / (p n v). For slimpipe (1/p) (1 + 2 (p-1-r) / (n v)).
    ///
    /// # Panics
    /// There is no such rank.
    pub fn activation_factor(&self, rank: u32) -> f64 {
        let Dimensions { ranks, slices, chunks, .. } = self.dimensions();
        let units_of_model = f64::from(ranks) * f64::from(slices) * f64::from(chunks);
        f64::from(self.in_flight_peak(rank)) / units_of_model
    }

    /// The idle part of a rank's step when all units cost the same and messages nothing:
    /// (p-1) / (m n v + p-1), for every schedule here.
    pub fn bubble_fraction(&self) -> f64 {
        let (work, idle) = (f64::from(self.dimensions().units()), f64::from(self.ranks() - 1));
        idle / (work + idle)
    }

    /// Units that run through one chunk before a rank turns to its next chunk, g: for slimpipe with
    /// v > 1 the smallest divisor of n that is at least p (n itself for v = 1), for
    /// interleaved-1f1b p.
    pub fn group(&self) -> u32 {
        self.builder().group(self.dimensions())
    }

    /// The most slices whose K/V gradients a rank holds at once, per layer of a chunk:
    /// (v-1)(n-g) + n. One chunk is being worked on, the others each wait for the slices of the
    /// earlier groups.
    pub fn kv_gradient_peak(&self) -> u32 {
        let Dimensions { slices, chunks, .. } = self.dimensions();
        (chunks - 1) * slices.saturating_sub(self.group()) + slices
    }

    /// Messages that must fit on the way from one rank to another, in each direction of the model,
    /// before a send has to wait: with less, the programs can deadlock.
    ///
    /// With v > 1 rank 0 gets the outputs of a whole group back before it turns to chunk 1, all but
    /// the p that are on the other ranks.
    pub fn channel_capacity(&self) -> u32 {
        let waiting = if self.chunks() > 1 { self.group().saturating_sub(self.ranks()) } else { 0 };
        super::DEFAULT_CAPACITY.max(waiting + 1)
    }
}
