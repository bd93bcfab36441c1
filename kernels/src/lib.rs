//! Compute kernels: raw slices, shapes and a thread team in, nothing else.
//!
//! This crate knows neither tensors nor allocators. Every kernel partitions its work by *shape*,
//! never by the number of threads, so that results are bitwise independent of the thread count.

pub mod cpu;
pub mod cuda;
