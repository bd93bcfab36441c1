//! The tape: nodes that remember how a tensor was made.
//!
//! A node holds what its backward needs and edges to the nodes of its inputs. Nodes are numbered in
//! the order they are made, so walking them from the highest number down is a topological order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use slimpipe_allocator::scope;
use slimpipe_runtime::{DType, RawTensor, Shape};

use crate::engine::Backward;
use crate::parameter::ParameterInner;
use crate::{Error, Result};

/// The backward of one operation. Consumed when it runs, so that what it saved is freed at once.
pub trait Function: Send {
    /// Turns the gradient of the output into gradients of the inputs, by calling `cx`.
    ///
    /// # Errors
    /// Whatever the computation meets.
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()>;

    /// Backward of an operation that no gradient tensor flows into: it was unlocked by a later one
    /// and finds its gradient elsewhere (the K/V accumulators).
    ///
    /// # Errors
    /// Whatever the computation meets.
    fn unlocked(self: Box<Self>, cx: &mut Backward<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }
}

/// An input's node; `None` for inputs that need no gradient.
pub(crate) type Edge = Option<Arc<Node>>;

pub(crate) enum Kind {
    /// Made by an operation; the function is taken when backward runs.
    Operation(Mutex<Option<Box<dyn Function>>>),
    /// A trainable parameter: gradients end here, in its accumulator.
    Parameter(Arc<ParameterInner>),
    /// An input whose gradient the caller of backward asks for.
    Leaf,
}

impl Kind {
    pub(crate) fn operation(function: impl Function + 'static) -> Self {
        Self::Operation(Mutex::new(Some(Box::new(function))))
    }
}

pub(crate) struct Node {
    pub id: u64,
    pub name: &'static str,
    /// The tensor's, and so its gradient's.
    shape: Shape,
    dtype: DType,
    /// The layer scope the node was made in; its backward allocates under the same layer.
    pub layer: Option<u32>,
    pub inputs: Vec<Edge>,
    pub kind: Kind,
}

impl Node {
    /// The node of `value`, the next on the tape.
    pub(crate) fn new(
        name: &'static str,
        value: &RawTensor,
        inputs: Vec<Edge>,
        kind: Kind,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (shape, dtype, layer) = (*value.shape(), value.dtype(), scope::current_layer());
        Arc::new(Self { id, name, shape, dtype, layer, inputs, kind })
    }

    /// Checks a gradient that `op` gives this node. A parameter accumulates any float dtype.
    pub(crate) fn check_gradient(&self, op: &'static str, gradient: &RawTensor) -> Result<()> {
        if *gradient.shape() != self.shape {
            let (expected, got) = (self.shape.into(), (*gradient.shape()).into());
            return Err(Error::GradientShape { op, expected, got });
        }
        if gradient.dtype() != self.dtype && !matches!(self.kind, Kind::Parameter(_)) {
            let (expected, got) = (self.dtype, gradient.dtype());
            return Err(Error::GradientDType { op, expected, got });
        }
        Ok(())
    }
}

impl Drop for Node {
    /// Frees long chains in a loop: the default would recurse once per node. What a function saved may
    /// lead to nodes, too, so it goes while the stack still keeps them.
    fn drop(&mut self) {
        let mut stack: Vec<Arc<Node>> = self.inputs.drain(..).flatten().collect();
        if let Kind::Operation(function) = &mut self.kind {
            function.get_mut().take();
        }
        while let Some(node) = stack.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                stack.extend(node.inputs.drain(..).flatten());
            }
        }
    }
}
