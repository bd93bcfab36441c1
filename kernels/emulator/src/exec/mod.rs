//! Execution: launches, clusters of blocks, warps, one instruction at a time.

mod access;
mod atomic;
mod barrier;
mod block;
mod cluster;
mod collective;
mod commons;
mod diagnose;
mod execute;
mod flight;
mod global_watch;
mod launch;
mod matrix;
mod policy;
mod report;
mod setup;
mod shared;
mod step;
mod warp;
mod watch;
mod worker;

pub use launch::Launch;
pub use policy::Policy;
pub use report::Report;
