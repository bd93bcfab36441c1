//! Sums, means and maxima.

use slimpipe_ops::reduce::{keep_dim, max_last, max_last_backward, sum_all, sum_to};
use slimpipe_ops::softmax::{softmax, softmax_backward};
use slimpipe_runtime::{RawTensor, Shape};

use crate::engine::Backward;
use crate::node::Function;
use crate::{Result, Tensor};

struct Sum(Shape);

impl Function for Sum {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, grad.broadcast_to(self.0)?)
    }
}

/// Routes the gradient to the element each maximum came from.
struct Max {
    shape: Shape,
    at: RawTensor,
}

impl Function for Max {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, max_last_backward(&grad, &self.at, self.shape)?)
    }
}

struct Softmax(RawTensor);

impl Function for Softmax {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, softmax_backward(&self.0, &grad)?)
    }
}

impl Tensor {
    /// The sum of all elements, a scalar.
    ///
    /// # Errors
    /// Not a float tensor, out of memory.
    #[track_caller]
    pub fn sum(&self) -> Result<Self> {
        let shape = *self.shape();
        Ok(Self::from_op("sum", sum_all(self.raw())?, &[self], || Sum(shape)))
    }

    /// The mean of all elements, a scalar.
    ///
    /// # Errors
    /// Not a float tensor, out of memory.
    #[track_caller]
    pub fn mean(&self) -> Result<Self> {
        self.sum()?.scale(1.0 / self.shape().elem_count().max(1) as f32)
    }

    /// The sums along `dim`, which keeps extent 1.
    ///
    /// # Errors
    /// No such dimension, not a float tensor, out of memory.
    #[track_caller]
    pub fn sum_keepdim(&self, dim: usize) -> Result<Self> {
        let shape = *self.shape();
        let raw = sum_to(self.raw(), keep_dim(&shape, dim)?)?;
        Ok(Self::from_op("sum", raw, &[self], || Sum(shape)))
    }

    /// The means along `dim`, which keeps extent 1.
    ///
    /// # Errors
    /// As [`Tensor::sum_keepdim`].
    #[track_caller]
    pub fn mean_keepdim(&self, dim: usize) -> Result<Self> {
        let count = self.dims().get(dim).copied().unwrap_or(1).max(1);
        self.sum_keepdim(dim)?.scale(1.0 / count as f32)
    }

    /// The maxima along the last dimension, which keeps extent 1.
    ///
    /// # Errors
    /// A scalar or empty rows, not a float tensor, out of memory.
    #[track_caller]
    pub fn max_keepdim(&self) -> Result<Self> {
        let shape = *self.shape();
        let (raw, at) = max_last(self.raw())?;
        Ok(Self::from_op("max", raw, &[self], || Max { shape, at }))
    }

    /// Softmax over the last dimension.
    ///
    /// # Errors
    /// Not a float tensor, out of memory.
    #[track_caller]
    pub fn softmax(&self) -> Result<Self> {
        let raw = softmax(self.raw())?;
        let y = raw.clone();
        Ok(Self::from_op("softmax", raw, &[self], || Softmax(y)))
    }
}
