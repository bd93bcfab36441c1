//! The programs of all ranks, stored.

use super::verify::{self, Report};
use super::{Action, Result, Schedule};

/// Messages per channel that a communicator buffers unless told otherwise. A channel leads from one
/// rank to one other and carries activations or gradients.
pub const DEFAULT_CAPACITY: u32 = 2;

/// One program per rank: what is verified, written and read.
///
/// As text (`Display` and `FromStr`) it is one header line and one line per rank; `#` begins a
/// comment:
///
/// ```text
/// # slimpipe schedule, format 1
/// schedule slimpipe ranks=2 slices=1 microbatches=1 chunks=1 tied=false
/// rank 0: F0.0:0 SA0.0:0>1 RG0.0:0<1 B0.0:0 NORM STEP
/// rank 1: RA0.0:0<0 F0.0:0 B0.0:0 SG0.0:0>0 NORM STEP
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    schedule: Schedule,
    ranks: Vec<Vec<Action>>,
}

impl Programs {
    /// The programs of a schedule.
    pub fn new(schedule: &Schedule) -> Self {
        let ranks = (0..schedule.ranks()).map(|rank| schedule.program(rank).collect()).collect();
        Self { schedule: schedule.clone(), ranks }
    }

    /// Programs made elsewhere, to be verified against the numbers, the placement and the in-flight
    /// bound of `schedule`. Ranks without a program get an empty one; programs of ranks that do not
    /// exist are dropped.
    pub fn from_actions(schedule: &Schedule, mut ranks: Vec<Vec<Action>>) -> Self {
        ranks.resize_with(schedule.ranks() as usize, Vec::new);
        Self { schedule: schedule.clone(), ranks }
    }

    /// The schedule they belong to.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The program of `rank`.
    ///
    /// # Panics
    /// There is no such rank.
    pub fn rank(&self, rank: u32) -> &[Action] {
        &self.ranks[rank as usize]
    }

    /// Proves in one walk, without running anything, that
    ///
    /// * every unit runs forward once and backward once; slices of a (microbatch, chunk) forward in
    ///   order and backward last in, first out, only after all of them ran forward; chunks of a
    ///   rank in stage order; so that no K/V gradient is left at the end;
    /// * units in flight never exceed [`Schedule::in_flight_peak`];
    /// * every receive meets exactly one send of the same slice across the same boundary of stages,
    ///   in order, and before the pass that needs it;
    /// * the ranks cannot deadlock if a send waits while `capacity` earlier messages of its channel
    ///   (from one rank to one other, activations and gradients apart) are unread;
    /// * the step ends with the reductions, matched across ranks, and the optimizer.
    ///
    /// Takes time proportional to the number of actions.
    ///
    /// # Errors
    /// [`ScheduleError::Invalid`](super::ScheduleError::Invalid) names the rank, the action and the
    /// broken rule.
    pub fn verify(&self, capacity: u32) -> Result<Report> {
        verify::verify(self, capacity)
    }
}
