//! One file per schedule: only what tells it from the others.

mod alternate;
mod gpipe;
mod interleaved;
mod one_f_one_b;
mod slimpipe;
mod v_half;
mod zb_h1;
mod zb_v;

use std::fmt::Debug;
use std::sync::Arc;

pub(super) use alternate::Alternating;
pub(super) use slimpipe::SlimPipe;

use super::program::Order;
use super::size::Size;
use super::{Placement, ScheduleError, ScheduleKind, Unit};

/// The closed forms of a schedule of one size.
pub(super) trait Builder: Debug + Send + Sync {
    /// The forwards and backwards of `rank`, in order.
    fn order(&self, rank: u32) -> Order<'_>;

    /// The most units that `rank` has in flight.
    fn in_flight_peak(&self, rank: u32) -> u64;

    /// The most messages of one kind that lie between two ranks when nobody is late.
    fn backlog(&self) -> u32 {
        1
    }

    /// The order of units, if all ranks run them in lock step.
    fn in_step(&self) -> Option<&dyn Alternating> {
        None
    }

    /// Which rank runs which stage.
    fn placement(&self, size: Size) -> Placement {
        Placement::around(size.ranks, size.chunks)
    }
}

/// The builder of `kind` for a step of `size`.
pub(super) fn builder(kind: ScheduleKind, size: Size) -> Result<Arc<dyn Builder>, ScheduleError> {
    use ScheduleKind as Kind;
    size.check()?;
    Ok(match kind {
        Kind::SlimPipe => Arc::new(SlimPipe::new(size)?),
        Kind::GPipe | Kind::TeraPipe => Arc::new(gpipe::GPipe::new(kind, size)?),
        Kind::OneFOneB | Kind::Seq1F1B | Kind::Seq1F1BBalanced => {
            Arc::new(one_f_one_b::OneFOneB::new(kind, size)?)
        }
        Kind::Interleaved => Arc::new(interleaved::Interleaved::new(size)?),
        Kind::ZbH1 => Arc::new(zb_h1::ZbH1::new(size)?),
        Kind::ZbV => Arc::new(zb_v::ZbV::new(size)?),
        Kind::VHalf => Arc::new(v_half::VHalf::new(size)?),
    })
}

/// The unit of a whole microbatch.
fn microbatch(microbatch: u32, chunk: u32) -> Unit {
    Unit { microbatch, slice: 0, chunk }
}
