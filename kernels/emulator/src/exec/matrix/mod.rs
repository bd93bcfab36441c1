//! Matrix products: those of warpgroups, which are done later, and those of warps.

mod descriptor;
mod fragment;
mod moves;
mod multiply;
mod queue;
mod track;
mod warp_product;

pub(super) use moves::move_matrix;
pub(super) use queue::{ProductQueue, commit, drift, issue, ready, wait};
pub(super) use track::{Track, fence, touch};
pub(super) use warp_product::warp_product;
