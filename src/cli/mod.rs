//! The subcommands, one file each.

pub mod bench;
pub mod doctor;
pub mod eval;
mod process;
mod progress;
pub mod simulate;
pub mod train;
