//! Matrix products: those of warpgroups, which are done later, and those of warps.

mod descriptor;
mod fragment;
mod issue;
mod moves;
mod multiply;
mod queue;
mod track;
mod wait;
mod warp_product;

pub(super) use issue::issue;
pub(super) use moves::move_matrix;
pub(super) use queue::ProductQueue;
pub(super) use track::{Track, fence, touch};
pub(super) use wait::{commit, drift, ready, wait};
pub(super) use warp_product::warp_product;
