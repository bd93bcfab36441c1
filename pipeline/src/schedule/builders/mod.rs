//! One file per schedule: only what tells it from the others.

mod gpipe;
mod interleaved;
mod one_f_one_b;
mod slimpipe;

use std::fmt::Debug;
use std::sync::Arc;

use super::size::Size;
use super::{ScheduleError, ScheduleKind, Unit};

/// The closed forms of a schedule of one shape: a rank runs forwards until a number of units is in
/// flight, then backward and forward in turn until forwards are exhausted, then only backwards.
pub(super) trait Builder: Debug + Send + Sync {
    /// The units that `rank` has in flight when it runs its first backward, unless there are fewer
    /// in the step.
    fn warm_up(&self, rank: u32) -> u64;

    /// The `k`-th unit to run forward, the same on every rank.
    fn forward(&self, k: u64) -> Unit;

    /// The `k`-th unit to run backward, the same on every rank.
    fn backward(&self, k: u64) -> Unit;

    /// The most messages of one kind that lie between two ranks when nobody is late.
    fn backlog(&self) -> u32 {
        1
    }
}

/// The builder of `kind` for a step of `size`.
pub(super) fn builder(kind: ScheduleKind, size: Size) -> Result<Arc<dyn Builder>, ScheduleError> {
    size.check()?;
    Ok(match kind {
        ScheduleKind::SlimPipe => Arc::new(slimpipe::SlimPipe::new(size)?),
        ScheduleKind::GPipe => Arc::new(gpipe::GPipe::new(size)?),
        ScheduleKind::OneFOneB => Arc::new(one_f_one_b::OneFOneB::new(size)?),
        ScheduleKind::Interleaved => Arc::new(interleaved::Interleaved::new(size)?),
    })
}

/// The unit of a whole microbatch on a rank with one chunk.
fn microbatch(k: u64) -> Unit {
    Unit { microbatch: k as u32, slice: 0, chunk: 0 }
}
