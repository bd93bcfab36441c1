//! Gradients, the tape, parameters, custom operations and attention across slices.

mod allocations;
mod custom;
mod gradients;
mod head;
mod kv;
mod parameters;
mod port;
mod recipes;
mod recompute;
mod tape;
mod tensors;
mod util;
