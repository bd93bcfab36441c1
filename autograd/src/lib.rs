//! Tensors with gradients, and gradients that cross sequence slices.
//!
//! ```
//! use slimpipe_autograd::{Parameter, Tensor};
//! use slimpipe_runtime::{Device, RawTensor};
//! let w = Parameter::new("w", RawTensor::from_slice(&[1f32, 2., 3., 4.], (2, 2), Device::Cpu)?);
//! let x = Tensor::new(&[1f32, -1.], (1, 2), Device::Cpu)?;
//! let loss = x.linear(&w.tensor())?.sum()?;       // y = x W^T
//! loss.backward()?;                               // frees what forward saved as it goes
//! assert_eq!(w.grad_to_vec()?.unwrap(), [1., -1., 1., -1.]);
//! # Ok::<(), slimpipe_autograd::Error>(())
//! ```
//!
//! * A [`Tensor`] is a raw tensor plus an optional node of the tape; every operation is a method.
//! * A [`Parameter`] has a value in the model's dtype and a gradient accumulated in f32. Gradients of
//!   weights are written straight into their accumulators.
//! * Backward consumes the tape: each saved tensor is freed by the operation that saved it.
//! * [`recompute`](recompute()) saves the inputs of a region in place of what is made in it.
//! * A [`KvCache`] carries keys and values from slice to slice, and their gradients back.
//! * [`CustomOp`] adds an operation from outside; [`GradCheck`] checks one.
//!
//! | module | owns |
//! |---|---|
//! | `tensor`, `functions` | the user's methods and their backward |
//! | `node`, `engine`, `weights` | the tape and the walk over it, whole or in two parts |
//! | `saved`, [`mod@recompute`] | what is kept for backward, or made again |
//! | `parameter`, `kv` | where gradients end, and how they cross slices |
//! | `port` | attention that others take part in |

mod custom;
mod engine;
mod error;
mod functions;
mod grad_mode;
mod gradcheck;
mod kv;
mod node;
mod parameter;
mod port;
pub mod recompute;
mod saved;
mod tensor;
mod weights;

pub use custom::CustomOp;
pub use engine::{Backward, TapeEnd, backward, backward_input};
pub use error::{Error, Result};
pub use grad_mode::{NoGrad, is_recording, no_grad};
pub use gradcheck::{GradCheck, gradcheck};
pub use kv::{KvCache, KvPrefix};
pub use node::Function;
pub use parameter::{Gradient, Parameter};
pub use port::{AttentionCall, AttentionPort, AttentionResult};
pub use recompute::recompute;
pub use slimpipe_ops::cross_entropy::IGNORE;
pub use slimpipe_ops::rope::RopeTable;
pub use slimpipe_ops::unary::Unary;
pub use tensor::Tensor;
pub use weights::WeightPart;
