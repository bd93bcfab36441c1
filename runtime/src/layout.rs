//! How a tensor's elements lie in its storage: shape, strides and an offset, all in elements.

use crate::shape::MAX_RANK;
use crate::{Error, Result, Shape};

/// Shape, strides and start of a view; strides and start count elements, not bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    shape: Shape,
    strides: [usize; MAX_RANK],
    start: usize,
}

impl Layout {
    /// The dense row-major layout of `shape`.
    pub fn contiguous(shape: Shape) -> Self {
        let mut strides = [0; MAX_RANK];
        let mut stride = 1;
        for (i, &extent) in shape.dims().iter().enumerate().rev() {
            strides[i] = stride;
            stride *= extent;
        }
        Self { shape, strides, start: 0 }
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Elements between neighbours along each dimension; 0 where a dimension is broadcast.
    pub fn strides(&self) -> &[usize] {
        &self.strides[..self.shape.rank()]
    }

    /// Index of the first element in the storage.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Elements from the first to one past the last that the view can reach.
    pub fn span(&self) -> usize {
        if self.shape.elem_count() == 0 {
            return 0;
        }
        1 + self.shape.dims().iter().zip(self.strides()).map(|(n, s)| (n - 1) * s).sum::<usize>()
    }

    /// Whether the elements lie densely in row-major order.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&extent, &stride) in self.shape.dims().iter().zip(self.strides()).rev() {
            if extent != 1 && stride != expected {
                return false;
            }
            expected *= extent;
        }
        true
    }

    fn check_dim(&self, op: &'static str, dim: usize) -> Result<()> {
        if dim < self.shape.rank() {
            return Ok(());
        }
        Err(Error::NoSuchDimension { op, dim, shape: self.shape })
    }

    /// Elements `start..start + len` along `dim`.
    ///
    /// # Errors
    /// No such dimension, or the range leaves it.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        self.check_dim("narrow", dim)?;
        let mut out = *self;
        let extent = self.shape.dims()[dim];
        if start.checked_add(len).is_none_or(|end| end > extent) {
            return Err(Error::RangeOutside { dim, start, len, shape: self.shape });
        }
        out.shape.dims_mut()[dim] = len;
        out.start += start * self.strides[dim];
        Ok(out)
    }

    /// The view with its dimensions in the order `axes`.
    ///
    /// # Errors
    /// `axes` is not a permutation of the dimensions.
    pub fn permute(&self, axes: &[usize]) -> Result<Self> {
        let rank = self.shape.rank();
        let mut seen = [false; MAX_RANK];
        let valid = axes.len() == rank
            && axes.iter().all(|&axis| axis < rank && !std::mem::replace(&mut seen[axis], true));
        if !valid {
            return Err(Error::NotAPermutation { axes: axes.to_vec(), shape: self.shape });
        }
        let mut out = *self;
        for (to, &from) in axes.iter().enumerate() {
            out.shape.dims_mut()[to] = self.shape.dims()[from];
            out.strides[to] = self.strides[from];
        }
        Ok(out)
    }

    /// The view with dimensions `a` and `b` exchanged.
    ///
    /// # Errors
    /// No such dimension.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Self> {
        self.check_dim("transpose", a)?;
        self.check_dim("transpose", b)?;
        let mut axes: Vec<usize> = (0..self.shape.rank()).collect();
        axes.swap(a, b);
        self.permute(&axes)
    }

    /// The view repeated (with stride 0) to `shape`.
    ///
    /// # Errors
    /// An extent differs that is not 1.
    pub fn broadcast_to(&self, shape: Shape) -> Result<Self> {
        if self.shape.broadcast(&shape) != Some(shape) {
            return Err(Error::CannotBroadcast {
                op: "broadcast_to",
                left: self.shape,
                right: shape,
            });
        }
        let missing = shape.rank() - self.shape.rank();
        let mut strides = [0; MAX_RANK];
        for (i, (&extent, &stride)) in self.shape.dims().iter().zip(self.strides()).enumerate() {
            strides[missing + i] = if extent == 1 { 0 } else { stride };
        }
        Ok(Self { shape, strides, start: self.start })
    }

    /// The same elements under another shape, without moving them; `None` where the strides do not
    /// allow it.
    pub fn reshape(&self, shape: Shape) -> Option<Self> {
        if shape.elem_count() != self.shape.elem_count() {
            return None;
        }
        if self.is_contiguous() {
            return Some(Self { start: self.start, ..Self::contiguous(shape) });
        }
        // Splitting or merging trailing dimensions of a row-strided matrix (a head split) is the
        // one case that matters: dense rows at a constant distance.
        let (&row_stride, rest) = self.strides().split_first()?;
        let rows = self.shape.dims()[0];
        let inner = Self::contiguous(Shape::from(&self.shape.dims()[1..]));
        if inner.strides() != rest || shape.dims().first() != Some(&rows) {
            return None;
        }
        let mut out = Self { start: self.start, ..Self::contiguous(shape) };
        out.strides[0] = row_stride;
        Some(out)
    }

    /// The view without its last dimension (its first element, where it has several).
    pub fn drop_last(&self) -> Self {
        let dims = self.shape.dims();
        let mut out = *self;
        out.shape = Shape::from(&dims[..dims.len().saturating_sub(1)]);
        out
    }

    /// The storage indices of the elements in row-major order.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        let dims = self.shape.dims();
        let mut position = [0; MAX_RANK];
        let mut index = self.start;
        (0..self.shape.elem_count()).map(move |_| {
            let current = index;
            for axis in (0..dims.len()).rev() {
                position[axis] += 1;
                index += self.strides[axis];
                if position[axis] < dims[axis] {
                    break;
                }
                index -= self.strides[axis] * dims[axis];
                position[axis] = 0;
            }
            current
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_walk_any_view_in_row_major_order() {
        let base = Layout::contiguous(Shape::from([2, 3, 4]));
        let view = base.transpose(0, 2).unwrap().narrow(0, 1, 2).unwrap();
        let expected: Vec<usize> = (1..3)
            .flat_map(|k| (0..3).flat_map(move |j| (0..2).map(move |i| i * 12 + j * 4 + k)))
            .collect();
        assert_eq!(view.indices().collect::<Vec<_>>(), expected);
        assert_eq!(view.span() + view.start(), 24 - 1);
    }

    #[test]
    fn head_splits_of_strided_rows_need_no_copy() {
        let rows = Layout::contiguous(Shape::from([4, 10])).narrow(1, 2, 6).unwrap();
        let heads = rows.reshape(Shape::from([4, 3, 2])).unwrap();
        assert_eq!((heads.strides(), heads.start()), ([10, 2, 1].as_slice(), 2));
        assert!(rows.reshape(Shape::from([24])).is_none());
    }

    #[test]
    fn broadcast_repeats_with_stride_zero() {
        let row = Layout::contiguous(Shape::from(3)).broadcast_to(Shape::from([2, 3])).unwrap();
        assert_eq!(row.indices().collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        assert!(Layout::contiguous(Shape::from(3)).broadcast_to(Shape::from([3, 2])).is_err());
    }
}
