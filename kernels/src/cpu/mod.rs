//! CPU kernels.

pub mod adamw;
pub mod attention;
pub mod convert;
pub mod embedding;
pub mod gemm;
pub mod loss;
mod micro;
pub mod norm;
pub mod peak;
pub mod reduce;
pub mod rope;
pub mod simd;
pub mod softmax;
pub mod swiglu;
pub mod threads;
pub mod unary;

pub use micro::Path;
