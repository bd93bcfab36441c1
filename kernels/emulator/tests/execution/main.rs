//! Executes small kernels and compares what they do with the host's arithmetic.

// Tables of closures beside their instructions, and the unordered comparisons of PTX.
#![allow(
    clippy::needless_range_loop,
    clippy::neg_cmp_op_on_partial_ord,
    clippy::nonminimal_bool,
    clippy::double_comparisons,
    clippy::precedence,
    clippy::type_complexity
)]

mod atomics;
mod bulk_copies;
mod clusters;
mod common;
mod control;
mod faults;
mod hostile;
mod kernels;
mod mbarriers;
mod mutants;
mod products;
mod scalar_float;
mod scalar_integer;
mod shuffles;
