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
        let mut stride = 1usize;
        for (i, &extent) in shape.dims().iter().enumerate().rev() {
            strides[i] = stride;
            stride = stride.saturating_mul(extent);
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
        // An empty view begins nowhere: its start must not leave the storage.
        if out.shape.elem_count() > 0 {
            out.start += start * self.strides[dim];
        }
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
                left: self.shape.into(),
                right: shape.into(),
            });
        }
        let missing = shape.rank() - self.shape.rank();
        let mut strides = [0; MAX_RANK];
        for (i, (&extent, &stride)) in self.shape.dims().iter().zip(self.strides()).enumerate() {
            strides[missing + i] = if extent == 1 { 0 } else { stride };
        }
        Ok(Self { shape, strides, start: self.start })
    }

    /// The view without dimension `dim`, whose extent is 1.
    ///
    /// # Errors
    /// No such dimension, or another extent.
    pub fn squeeze(&self, dim: usize) -> Result<Self> {
        self.check_dim("squeeze", dim)?;
        let extent = self.shape.dims()[dim];
        if extent != 1 {
            let what =
                format!("dimension {dim} of shape {} has extent {extent}, not 1", self.shape);
            return Err(Error::ShapeMismatch { op: "squeeze", what });
        }
        let mut out = *self;
        out.shape = self.shape.without(dim);
        out.strides.copy_within(dim + 1.., dim);
        Ok(out)
    }

    /// The view with a dimension of extent 1 before dimension `dim` (after the last, if `dim` is the
    /// rank).
    ///
    /// # Errors
    /// No such place, or more dimensions than a tensor can have.
    pub fn unsqueeze(&self, dim: usize) -> Result<Self> {
        let rank = self.shape.rank();
        if dim > rank || rank == MAX_RANK {
            return Err(Error::NoSuchDimension { op: "unsqueeze", dim, shape: self.shape });
        }
        let mut out = *self;
        out.shape = self.shape.with(dim, 1);
        out.strides.copy_within(dim..MAX_RANK - 1, dim + 1);
        out.strides[dim] = 0;
        Ok(out)
    }

    /// The first `count` dimensions alone: where the rows or matrices of the rest begin.
    ///
    /// # Panics
    /// There are fewer.
    pub fn leading(&self, count: usize) -> Self {
        Self { shape: Shape::from(&self.shape.dims()[..count]), ..*self }
    }

    /// The same elements under another shape, without moving them; `None` where the strides do not
    /// allow it.
    pub fn reshape(&self, shape: Shape) -> Option<Self> {
        if shape.elem_count() != self.shape.elem_count() {
            return None;
        }
        let mut out = Self { start: self.start, ..Self::contiguous(shape) };
        if self.is_contiguous() || shape.elem_count() == 0 {
            return Some(out);
        }
        // Neighbouring dimensions that lie as one form a run; whole groups of new dimensions must
        // fill each run exactly.
        let (old, new) = (self.shape.dims(), shape.dims());
        let (mut outer, mut run, mut stride) = (new.len(), 1, self.strides[old.len() - 1]);
        for dim in (0..old.len()).rev() {
            run *= old[dim];
            if dim > 0 && (old[dim - 1] == 1 || self.strides[dim - 1] == run * stride) {
                continue;
            }
            let mut filled = 1;
            while outer > 0 && (filled < run || new[outer - 1] == 1) {
                outer -= 1;
                out.strides[outer] = filled * stride;
                filled *= new[outer];
            }
            if filled != run {
                return None;
            }
            if dim > 0 {
                (run, stride) = (1, self.strides[dim - 1]);
            }
        }
        Some(out)
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

    fn layout<const N: usize>(dims: [usize; N]) -> Layout {
        Layout::contiguous(Shape::from(dims))
    }

    #[test]
    fn indices_walk_any_view_in_row_major_order() {
        let view = layout([2, 3, 4]).transpose(0, 2).unwrap().narrow(0, 1, 2).unwrap();
        let expected: Vec<usize> = (1..3)
            .flat_map(|k| (0..3).flat_map(move |j| (0..2).map(move |i| i * 12 + j * 4 + k)))
            .collect();
        assert_eq!(view.indices().collect::<Vec<_>>(), expected);
        assert_eq!(view.span() + view.start(), 24 - 1);
    }

    #[test]
    fn reshaping_a_strided_view_keeps_every_element_or_declines() {
        let columns = layout([4, 10]).narrow(1, 2, 6).unwrap();
        let swapped = layout([2, 3, 4]).transpose(0, 1).unwrap();
        let repeated = layout([3, 1]).broadcast_to(Shape::from([3, 4])).unwrap();
        let cases: [(Layout, &[usize], bool); 9] = [
            (columns, &[4, 3, 2], true),
            (columns, &[2, 2, 6], true),
            (columns, &[1, 4, 1, 2, 3], true),
            (columns, &[24], false),
            (columns, &[8, 3], false), // would need two strides in one dimension
            (swapped, &[3, 2, 2, 2], true),
            (swapped, &[6, 4], false),
            (repeated, &[3, 2, 2], true),
            (repeated, &[6, 2], false),
        ];
        for (view, shape, possible) in cases {
            let reshaped = view.reshape(Shape::from(shape));
            assert_eq!(reshaped.is_some(), possible, "{view:?} as {shape:?}");
            if let Some(reshaped) = reshaped {
                assert!(reshaped.indices().eq(view.indices()), "{view:?} as {shape:?}");
            }
        }
    }

    #[test]
    fn broadcast_repeats_with_stride_zero() {
        let row = layout([3]).broadcast_to(Shape::from([2, 3])).unwrap();
        assert_eq!(row.indices().collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        assert!(layout([3]).broadcast_to(Shape::from([3, 2])).is_err());
    }

    #[test]
    fn empty_views_never_begin_outside_their_storage() {
        let view = layout([2, 3]).narrow(0, 2, 0).unwrap().narrow(1, 3, 0).unwrap();
        assert_eq!((view.start(), view.span(), view.indices().count()), (0, 0, 0));
    }

    #[test]
    fn an_inserted_dimension_can_be_removed_again() {
        let view = layout([2, 3, 4]).transpose(0, 2).unwrap();
        for dim in 0..=3 {
            let more = view.unsqueeze(dim).unwrap();
            assert_eq!(more.shape().dims()[dim], 1);
            assert_eq!(more.squeeze(dim).unwrap().strides(), view.strides());
        }
        assert!(view.unsqueeze(4).is_err() && view.squeeze(0).is_err());
    }
}
