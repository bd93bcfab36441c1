//! CPU kernels.

pub mod threads;
