//! Barriers: those of a block by number, those in shared memory, and that of a cluster.

mod count;
mod mbarrier;
mod meet;
mod named;

pub(super) use count::mbarrier;
pub(super) use mbarrier::MBarriers;
pub(super) use meet::meet;
pub(super) use named::{BARRIERS, NamedBarrier};
