//! The layer below the launchers of CUDA kernels: texts, compiler, cache, static gates.

mod cache;
mod compile;
mod gates;
mod stored;
