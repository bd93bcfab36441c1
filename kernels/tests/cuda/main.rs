//! The layer below the launchers of CUDA kernels: texts, compiler, cache.

mod cache;
mod compile;
