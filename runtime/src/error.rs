use slimpipe_allocator::AllocError;
use slimpipe_kernels::cuda::CudaError;

use crate::{DType, Device, Shape};

/// What can go wrong with a tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // -- types --
    /// A dtype name nobody knows.
    #[error("unknown dtype `{name}`: use f32, bf16, f16, i32, u32, i64 or u8")]
    UnknownDType {
        /// The name as given.
        name: String,
    },
    /// An operation got a dtype it does not work on.
    #[error("{op}: expected dtype {expected}, got {got}; convert with to_dtype first")]
    WrongDType {
        /// The operation.
        op: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What it got.
        got: DType,
    },
    /// Two operands differ in dtype.
    #[error("{op}: operands differ in dtype, {left} and {right}; convert one with to_dtype")]
    MixedDTypes {
        /// The operation.
        op: &'static str,
        /// Dtype of the left operand.
        left: DType,
        /// Dtype of the right operand.
        right: DType,
    },
    // -- shapes --
    /// A dimension outside the tensor's rank.
    #[error("{op}: there is no dimension {dim} in a tensor of shape {shape}")]
    NoSuchDimension {
        /// The operation.
        op: &'static str,
        /// The dimension asked for.
        dim: usize,
        /// The tensor's shape.
        shape: Shape,
    },
    /// A slice that leaves its dimension.
    #[error(
        "narrow: elements {start}..{} of dimension {dim} lie outside shape {shape}",
        start.saturating_add(*len)
    )]
    RangeOutside {
        /// The dimension.
        dim: usize,
        /// First element.
        start: usize,
        /// Number of elements.
        len: usize,
        /// The tensor's shape.
        shape: Shape,
    },
    /// Axes that do not name each dimension once.
    #[error("permute: {axes:?} does not name each dimension of shape {shape} once")]
    NotAPermutation {
        /// The axes as given.
        axes: Vec<usize>,
        /// The tensor's shape.
        shape: Shape,
    },
    /// Shapes that do not broadcast.
    #[error("{op}: shapes {left} and {right} do not broadcast")]
    CannotBroadcast {
        /// The operation.
        op: &'static str,
        /// Shape of the left operand.
        left: Box<Shape>,
        /// Shape of the right operand.
        right: Box<Shape>,
    },
    /// Shapes that do not fit an operation.
    #[error("{op}: {what}")]
    ShapeMismatch {
        /// The operation.
        op: &'static str,
        /// What does not fit, with the shapes.
        what: String,
    },
    /// A view that would have to move elements.
    #[error(
        "{op}: a tensor of shape {shape} with strides {strides:?} is not contiguous; call contiguous() first"
    )]
    NotContiguous {
        /// The operation.
        op: &'static str,
        /// The tensor's shape.
        shape: Shape,
        /// The tensor's strides, in elements.
        strides: Vec<usize>,
    },
    // -- storage --
    /// Reading elements of a tensor that has none.
    #[error("{op}: a meta tensor has a shape but no elements; run on Device::Cpu to read values")]
    MetaHasNoData {
        /// The operation.
        op: &'static str,
    },
    /// The host reads or writes elements that lie on a GPU.
    #[error(
        "{op}: the tensor lies on {device}, where the CPU cannot reach its elements; copy it with to_device(Device::Cpu)"
    )]
    NotOnHost {
        /// The operation.
        op: &'static str,
        /// Where the tensor lies.
        device: Device,
    },
    /// A GPU is to use elements that do not lie on it.
    #[error(
        "{op}: a tensor on a GPU is needed, and this one lies on {device}; copy it with to_device"
    )]
    NotOnGpu {
        /// The operation.
        op: &'static str,
        /// Where the tensor lies.
        device: Device,
    },
    /// Writing to storage that other handles can see.
    #[error(
        "{op}: the tensor shares its storage with other handles and cannot be written in place"
    )]
    SharedStorage {
        /// The operation.
        op: &'static str,
    },
    /// No memory, or memory that is gone.
    #[error(transparent)]
    Memory(#[from] AllocError),
    /// A GPU, its driver or its compiler failed.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// A thread could not be started.
    #[error("cannot start a helper thread: {0}; lower parallel.threads")]
    Threads(#[source] std::io::Error),
}

/// Shorthand for a result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
