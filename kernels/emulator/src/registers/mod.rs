//! A warp's registers: 32 lanes side by side.

mod file;
mod lane;
mod slot;

pub(crate) use file::{Constants, Registers};
pub(crate) use lane::{Lane, Pair, Word};
pub(crate) use slot::{Class, Slot};

/// Threads of a warp.
pub(crate) const LANES: usize = 32;

/// The mask of a whole warp.
pub(crate) const ALL: u32 = u32::MAX;
