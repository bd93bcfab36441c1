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
mod scratch;
pub mod simd;
pub mod softmax;
pub mod swiglu;
#[cfg(test)]
mod testing;
pub mod threads;
mod transpose;
pub mod unary;
pub mod vocabulary;
mod words;

pub use micro::Path;
