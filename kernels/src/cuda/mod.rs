//! NVIDIA GPUs: the driver, kernels' texts and their compiler, and one launcher per operation.
//!
//! Nothing of CUDA is needed to build or to load this crate; libraries are opened when they are first
//! needed, and what is missing is a [`CudaError`] of one line.
//!
//! | module | owns |
//! |---|---|
//! | [`driver`] | the gate: is there a driver, and is it new enough |
//! | [`context`] | a GPU and its facts |
//! | [`stream`], [`event`] | order: queues of work, marks to wait for |
//! | [`module`], [`launch`] | loaded kernels, and running them |
//! | [`Range`], [`Pinned`] | memory of the GPU, and of the host for it |
//! | [`copy`] | copies and fills |
//! | [`tensor_map`] | tensors as the copy engine sees them |
//! | [`compile`] | texts, variants, the compiler, the cache on disk |

pub mod adamw;
pub mod attention;
pub mod compile;
pub mod context;
pub mod convert;
pub mod copy;
pub mod cublaslt;
pub mod driver;
pub mod elementwise;
pub mod embedding;
mod error;
pub mod event;
mod float;
pub mod gemm;
mod grid;
pub mod launch;
pub mod loss;
pub mod merge_attention;
pub mod mlp_swiglu;
pub mod module;
pub mod norm;
mod operand;
mod pinned;
pub mod plain_attention;
pub mod plain_gemm;
mod pointer;
pub mod random;
mod range;
pub mod reduce;
pub mod rope;
pub mod softmax;
pub mod stream;
pub mod strided;
pub mod swiglu;
mod table;
pub mod tensor_map;
mod tensors;
pub mod unary;
mod variants;
mod version;
pub mod vocabulary;
mod walk;

pub use context::Context;
pub use error::{CudaError, Result};
pub use event::{Event, PooledEvent};
pub use float::Float;
pub use pinned::Pinned;
pub use pointer::DevicePtr;
pub use range::Range;
pub use stream::Stream;
pub use tensor_map::TensorMap;
pub use variants::variants;
pub use version::Version;
