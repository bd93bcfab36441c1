//! Planning a run before renting GPUs: what a layout holds and how fast it is.

mod compare;
pub mod cost;
mod evaluate;
mod file;
mod job;
mod layout;
pub mod memory;
mod model;
mod search;
mod setup;
mod space;
mod ulysses;
mod why;
mod workload;

pub use compare::{Baseline, Comparison, Gain, longest_context, published};
pub use evaluate::{Plan, Site};
pub use job::of_job;
pub use layout::Layout;
pub use memory::{Accounting, Memory};
pub use model::{Experts, Model};
pub use search::{Closest, Found};
pub use setup::Setup;
pub use space::{Format, Space};
pub use why::Neighbour;
pub use workload::Workload;
