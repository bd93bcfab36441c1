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

pub mod compile;
pub mod context;
pub mod copy;
pub mod driver;
mod error;
pub mod event;
mod float;
pub mod launch;
pub mod module;
mod pinned;
mod pointer;
mod range;
pub mod stream;
pub mod tensor_map;
mod variants;
mod version;

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
