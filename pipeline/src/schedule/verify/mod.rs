//! Static verification: what [`Programs::verify`] does.
//!
//! Two walks, each linear in the number of actions. The first takes every rank's program on its
//! own and checks the order of its units (`local`). The second plays all programs against each
//! other with bounded buffers (`together`): programs have no branches and messages of a channel
//! arrive in order, so whether they get stuck does not depend on timing, and one play is a proof.

mod local;
mod together;
mod violation;

pub use violation::Violation;

use super::{Action, Programs, Result, ScheduleError};

/// What a verified set of programs does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Per rank, the most units between forward and backward.
    pub in_flight_peak: Vec<u32>,
    /// Per rank, the most slices whose K/V gradients are held at once, per layer of a chunk. They
    /// begin with the backward of a sequence's last slice and end one by one.
    pub kv_gradient_peak: Vec<u32>,
    /// Messages from rank to rank in one step.
    pub messages: u64,
    /// The most messages that were under way in one channel (never above the capacity).
    pub channel_peak: u32,
    /// Actions of all ranks.
    pub actions: u64,
}

pub(super) fn verify(programs: &Programs, capacity: u32) -> Result<Report> {
    let mut report = Report::default();
    for rank in 0..programs.schedule().ranks() {
        let peaks = local::check(programs, rank)?;
        report.in_flight_peak.push(peaks.in_flight);
        report.kv_gradient_peak.push(peaks.kv_gradients);
        report.actions += programs.rank(rank).len() as u64;
    }
    together::check(programs, capacity, &mut report)?;
    Ok(report)
}

/// The error of `violation` at action `index` of a rank.
fn invalid(programs: &Programs, rank: u32, index: usize, violation: Violation) -> ScheduleError {
    let action: Option<Action> = programs.rank(rank).get(index).copied();
    ScheduleError::Invalid { rank, index, action, violation }
}
