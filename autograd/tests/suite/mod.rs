//! Gradients, parameters, recomputation and attention across slices: on the device of whoever includes this.

mod gradients;
mod head;
mod kv;
mod parameters;
mod port;
mod recipes;
mod recompute;
mod tensors;
pub mod util;
