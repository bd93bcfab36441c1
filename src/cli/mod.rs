//! The subcommands, one file each.

pub mod bench;
pub mod doctor;
pub mod eval;
mod figures;
mod flags;
pub mod kernels;
mod output;
pub mod plan;
mod process;
mod progress;
pub mod simulate;
pub mod trace;
pub mod train;
