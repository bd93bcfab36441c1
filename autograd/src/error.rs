use slimpipe_runtime::{DType, Shape};

/// What can go wrong when gradients are involved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation on raw tensors failed.
    #[error(transparent)]
    Tensor(#[from] slimpipe_runtime::Error),
    /// A graph was walked backward twice.
    #[error(
        "backward of `{op}`: its saved tensors were already consumed; run forward again before a second backward"
    )]
    AlreadyConsumed {
        /// The operation.
        op: &'static str,
    },
    /// `backward` on a tensor that no parameter leads to.
    #[error("backward: the tensor does not depend on any parameter, or was made under no_grad")]
    NoGraph,
    /// A tensor with more elements (or fewer) than the one a scalar has.
    #[error(
        "a tensor of shape {shape} is not a scalar: reduce it with sum or mean, or pass its gradient with backward_with"
    )]
    NotAScalar {
        /// The tensor's shape.
        shape: Shape,
    },
    /// A gradient of another shape than its tensor.
    #[error("backward of `{op}`: gradient of shape {got} for a tensor of shape {expected}")]
    GradientShape {
        /// The operation that produced the gradient.
        op: &'static str,
        /// Shape of the tensor.
        expected: Box<Shape>,
        /// Shape of the gradient.
        got: Box<Shape>,
    },
    /// A gradient of another dtype than its tensor.
    #[error(
        "backward of `{op}`: gradient of dtype {got} for a tensor of dtype {expected}; convert it with to_dtype"
    )]
    GradientDType {
        /// The operation that produced the gradient.
        op: &'static str,
        /// Dtype of the tensor.
        expected: DType,
        /// Dtype of the gradient.
        got: DType,
    },
    /// Slices whose backward does not run last in, first out.
    #[error(
        "backward of slice {slice} before that of slice {expected}: slices of a sequence run backward in reverse order, because K/V gradients of a slice come from all later ones"
    )]
    OutOfOrder {
        /// The slice that was run.
        slice: usize,
        /// The slice whose turn it is.
        expected: usize,
    },
    /// A region that is recomputed and writes to a K/V cache.
    #[error(
        "recompute: the region writes to a KvCache, and would again in backward; call KvCache::write before it and Tensor::attend_to in it"
    )]
    WriteInRecompute,
    /// A fused head whose loss is not the root of backward.
    #[error(
        "head_loss: the gradient flowing in must be 1, not {got}; scale through the `scale` argument, the head's weight gradient is already accumulated in forward"
    )]
    HeadNotRoot {
        /// The gradient that flowed in.
        got: f32,
    },
    /// A mistake a custom operation reports, or one it made.
    #[error("custom op `{op}`: {what}")]
    Custom {
        /// The operation.
        op: &'static str,
        /// What is wrong.
        what: String,
    },
    /// Whoever takes part in attention failed.
    #[error(transparent)]
    Port(Box<dyn std::error::Error + Send + Sync>),
    /// An analytic gradient that differs from the numeric one.
    #[error(
        "gradient check: input {input}, element {element}: analytic {analytic:e}, numeric {numeric:e}"
    )]
    GradientCheck {
        /// Which input.
        input: usize,
        /// Which element of it.
        element: usize,
        /// From backward.
        analytic: f64,
        /// From central differences.
        numeric: f64,
    },
}

/// Shorthand for a result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
