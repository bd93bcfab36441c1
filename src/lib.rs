//! Trains long-context language models from Rust with as little memory as the mathematics allows.
//!
//! ```
//! use slimpipe::prelude::*;
//! let w = Parameter::new("w", RawTensor::from_slice(&[1f32, 2., 3., 4.], (2, 2), Device::Cpu)?);
//! let x = Tensor::new(&[1f32, -1.], (1, 2), Device::Cpu)?;
//! let loss = x.linear(&w.tensor())?.silu()?.sum()?;
//! loss.backward()?;
//! assert_eq!(w.grad_to_vec()?.unwrap().len(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A sequence is cut into slices, slices flow one behind the other through pipeline ranks in a
//! one-forward-one-backward order (SlimPipe, arXiv 2504.14519), and the moment a slice's backward
//! ends on a rank, everything that slice owned there is gone.
//!
//! | module | the layer |
//! |---|---|
//! | [`allocator`] | memory by region and unit: plans, limits, traces |
//! | [`runtime`] | tensors without gradients, devices, random numbers |
//! | [`kernels`] | compute kernels on raw slices |
//! | [`ops`] | operations on raw tensors |
//! | [`autograd`] | tensors with gradients, parameters, custom operations |
//! | [`pipeline`] | schedules, their verifier, communicators, the executor |
//! | [`train`] | models, optimizer, data, checkpoints, the trainer |
//!
//! `examples/train_llama.rs` is a whole training program, `examples/own_model.rs` brings a model of
//! another kind, `examples/custom_op.rs` an operation of its own.

pub use slimpipe_allocator as allocator;
pub use slimpipe_autograd as autograd;
pub use slimpipe_kernels as kernels;
pub use slimpipe_ops as ops;
pub use slimpipe_pipeline as pipeline;
pub use slimpipe_runtime as runtime;
pub use slimpipe_train as train;

/// What a model and its training loop need.
pub mod prelude {
    pub use slimpipe_allocator::{Bytes, Memory, scope};
    pub use slimpipe_autograd::{
        CustomOp, GradCheck, KvCache, Parameter, RopeTable, Tensor, backward, no_grad,
    };
    pub use slimpipe_pipeline::comm::Communicator;
    pub use slimpipe_pipeline::comm::local::{LocalComm, launch};
    pub use slimpipe_pipeline::execute::{
        Batch, Pipeline, Sequence, SliceContext, Stage, StageInput, StageOutput, StageSpec,
    };
    pub use slimpipe_pipeline::schedule::{Exchange, Schedule, ScheduleKind, Slices};
    pub use slimpipe_runtime::random::Random;
    pub use slimpipe_runtime::{DType, Device, RawTensor, Shape, team};
    pub use slimpipe_train::optimizer::{AdamW, AdamWConfig, clip_factor};
}
