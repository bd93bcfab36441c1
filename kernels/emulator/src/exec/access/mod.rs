//! Memory accesses of a warp.

mod load;
mod place;
mod span;
mod store;
mod store_async;

pub(super) use load::{load, read};
pub(super) use place::{addresses, aligned, lanes, resolve, shared_block, shared_place};
pub(super) use span::note_global;
pub(super) use store::store;
pub(super) use store_async::store_async;

/// Bytes of each lane.
type Data<const N: usize> = [[u8; N]; crate::registers::LANES];
