//! Operations on raw tensors: one file each, with its shape rule, computation and backward.
//!
//! ```
//! use slimpipe_ops as ops;
//! use slimpipe_runtime::{Device, RawTensor};
//! let a = RawTensor::from_slice(&[1f32, 2., 3., 4.], (2, 2), Device::Cpu)?;
//! let b = ops::matmul::matmul(&a, &a.transpose(0, 1)?)?;       // no copy for the transpose
//! assert_eq!(b.to_vec::<f32>()?, [5., 11., 11., 25.]);
//! # Ok::<(), slimpipe_runtime::Error>(())
//! ```
//!
//! Functions take `&RawTensor` and allocate their results from the current memory scope. On the
//! meta device they stop after the shape rule, having allocated exactly what the real run would:
//! that is how memory plans are recorded. On the CPU, work is shared by the current
//! [team](slimpipe_runtime::team) of threads and is bitwise independent of its size. On a GPU, kernels
//! are enqueued on the thread's [compute stream](slimpipe_runtime::stream), and nothing waits for them.
//!
//! Floating-point operations take f32 and bf16 and compute in f32; f16 is for storage and casts.

pub mod attention;
pub mod cast;
pub mod cat;
pub mod copy;
pub mod cross_entropy;
mod dispatch;
pub mod elementwise;
pub mod embedding;
mod gpu;
pub mod layer_norm;
pub mod matmul;
pub mod reduce;
pub mod rms_norm;
pub mod rope;
mod runs;
pub mod softmax;
pub mod swiglu;
pub mod unary;
pub mod vocabulary;
