//! Planning a run before renting GPUs: what a layout holds and how fast it is.

mod layout;
pub mod memory;
mod model;
mod setup;
mod workload;

pub use layout::Layout;
pub use memory::{Accounting, Memory};
pub use model::{Experts, Model};
pub use setup::Setup;
pub use workload::Workload;
