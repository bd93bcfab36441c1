//! Views: reshape, transpose, permute, narrow, broadcast. Nothing is copied or saved in forward. And
//! their opposite, concatenation.

use slimpipe_ops::cat::{cat, narrow_backward};
use slimpipe_ops::copy::{contiguous, reshape};
use slimpipe_ops::elementwise::add_assign;
use slimpipe_ops::reduce::sum_to;
use slimpipe_runtime::{RawTensor, Shape};

use crate::engine::Backward;
use crate::node::Function;
use crate::{Result, Tensor};

struct Reshape(Shape);

impl Function for Reshape {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, reshape(&grad, self.0)?)
    }
}

/// Holds the inverse permutation.
struct Permute(Vec<usize>);

impl Function for Permute {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, grad.permute(&self.0)?)
    }
}

struct Narrow {
    shape: Shape,
    dim: usize,
    start: usize,
}

impl Function for Narrow {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let Self { shape, dim, start } = *self;
        // Rows of a parameter (learned positions) take their gradient in place.
        let add = |sum: &mut RawTensor| {
            Ok(sum.with_rows(start, grad.dims()[0], |rows| add_assign(rows, &grad))?)
        };
        if dim == 0 && cx.accumulate_only(0, add)? {
            return Ok(());
        }
        cx.add(0, narrow_backward(&grad, shape, dim, start)?)
    }
}

struct Broadcast(Shape);

impl Function for Broadcast {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, sum_to(&grad, self.0)?)
    }
}

/// Holds the dimension and each part's extent along it.
struct Cat {
    dim: usize,
    extents: Vec<usize>,
}

impl Function for Cat {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let mut start = 0;
        for (index, extent) in self.extents.into_iter().enumerate() {
            cx.add(index, grad.narrow(self.dim, start, extent)?)?;
            start += extent;
        }
        Ok(())
    }
}

struct Identity;

impl Function for Identity {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, grad)
    }
}

impl Tensor {
    /// The same elements under another shape; copies only if the strides do not allow a view.
    ///
    /// # Errors
    /// Another number of elements, out of memory.
    #[track_caller]
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let (shape, from) = (shape.into(), *self.shape());
        let raw = reshape(self.raw(), shape)?;
        Ok(Self::from_op("reshape", raw, &[self], || Reshape(from)))
    }

    /// The view without dimension `dim`, whose extent is 1.
    ///
    /// # Errors
    /// Another extent, or no such dimension.
    pub fn squeeze(&self, dim: usize) -> Result<Self> {
        let (raw, from) = (self.raw().squeeze(dim)?, *self.shape());
        Ok(Self::from_op("squeeze", raw, &[self], || Reshape(from)))
    }

    /// The view with a dimension of extent 1 before dimension `dim` (or after the last).
    ///
    /// # Errors
    /// No such place, or more dimensions than a tensor can have.
    pub fn unsqueeze(&self, dim: usize) -> Result<Self> {
        let (raw, from) = (self.raw().unsqueeze(dim)?, *self.shape());
        Ok(Self::from_op("unsqueeze", raw, &[self], || Reshape(from)))
    }

    /// The tensors of `parts` behind one another along dimension `dim`; all other extents agree.
    ///
    /// # Errors
    /// No part, shapes or dtypes that do not fit, out of memory.
    #[track_caller]
    pub fn cat(parts: &[&Self], dim: usize) -> Result<Self> {
        let raws: Vec<&RawTensor> = parts.iter().map(|part| part.raw()).collect();
        let raw = cat(&raws, dim)?;
        let extents = || raws.iter().map(|raw| raw.dims()[dim]).collect();
        Ok(Self::from_op("cat", raw, parts, || Cat { dim, extents: extents() }))
    }

    /// The view with its dimensions in the order `axes`.
    ///
    /// # Errors
    /// `axes` is not a permutation.
    pub fn permute(&self, axes: &[usize]) -> Result<Self> {
        let raw = self.raw().permute(axes)?;
        Ok(Self::from_op("permute", raw, &[self], || {
            let mut inverse = vec![0; axes.len()];
            for (to, &from) in axes.iter().enumerate() {
                inverse[from] = to;
            }
            Permute(inverse)
        }))
    }

    /// The view with dimensions `a` and `b` exchanged.
    ///
    /// # Errors
    /// No such dimension.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Self> {
        let raw = self.raw().transpose(a, b)?;
        Ok(Self::from_op("transpose", raw, &[self], || {
            let mut axes: Vec<usize> = (0..self.rank()).collect();
            axes.swap(a, b);
            Permute(axes)
        }))
    }

    /// The view of elements `start..start + len` along `dim`.
    ///
    /// # Errors
    /// The range leaves the dimension.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        let raw = self.raw().narrow(dim, start, len)?;
        let shape = *self.shape();
        Ok(Self::from_op("narrow", raw, &[self], || Narrow { shape, dim, start }))
    }

    /// The view repeated to a larger shape.
    ///
    /// # Errors
    /// The shapes do not broadcast.
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        let raw = self.raw().broadcast_to(shape)?;
        let from = *self.shape();
        Ok(Self::from_op("broadcast", raw, &[self], || Broadcast(from)))
    }

    /// The elements in dense row-major order; copies only if they are not.
    ///
    /// # Errors
    /// Out of memory.
    #[track_caller]
    pub fn contiguous(&self) -> Result<Self> {
        let raw = contiguous(self.raw())?;
        Ok(Self::from_op("contiguous", raw, &[self], || Identity))
    }
}
