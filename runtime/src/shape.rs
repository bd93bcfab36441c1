//! Extents of a tensor, kept inline so that shapes are `Copy` and never touch the heap.

use std::fmt;

/// The most dimensions a tensor can have.
pub const MAX_RANK: usize = 6;

/// The extents of a tensor, outermost first; a scalar has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank()]
    }

    /// The extents, to change them in place.
    pub fn dims_mut(&mut self) -> &mut [usize] {
        let rank = self.rank();
        &mut self.dims[..rank]
    }

    /// Number of elements; 1 for a scalar. Sticks at the highest number instead of wrapping.
    pub fn elem_count(&self) -> usize {
        self.dims().iter().fold(1, |count: usize, &extent| count.saturating_mul(extent))
    }

    /// The shape without dimension `dim`.
    ///
    /// # Panics
    /// There is no such dimension.
    pub fn without(&self, dim: usize) -> Self {
        assert!(dim < self.rank(), "no dimension {dim} in shape {self}");
        let mut out = *self;
        out.dims.copy_within(dim + 1.., dim);
        out.rank -= 1;
        Self::from(out.dims())
    }

    /// The shape with `extent` inserted before dimension `dim` (or after the last).
    ///
    /// # Panics
    /// `dim` is beyond the rank, or the shape has [`MAX_RANK`] dimensions already.
    pub fn with(&self, dim: usize, extent: usize) -> Self {
        let rank = self.rank();
        assert!(dim <= rank && rank < MAX_RANK, "no room for dimension {dim} in shape {self}");
        let mut out = *self;
        out.dims.copy_within(dim..rank, dim + 1);
        out.dims[dim] = extent;
        out.rank += 1;
        out
    }

    /// The shape both operands of an elementwise operation take on (NumPy's rule), if there is one.
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let rank = self.rank().max(other.rank());
        let mut dims = [1; MAX_RANK];
        for (i, dim) in dims[..rank].iter_mut().enumerate() {
            let at =
                |shape: &Self| (i + shape.rank()).checked_sub(rank).map_or(1, |j| shape.dims()[j]);
            *dim = match (at(self), at(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(Self::from(&dims[..rank]))
    }
}

impl From<&[usize]> for Shape {
    /// # Panics
    /// More than [`MAX_RANK`] dimensions.
    fn from(extents: &[usize]) -> Self {
        assert!(
            extents.len() <= MAX_RANK,
            "a tensor has at most {MAX_RANK} dimensions, not {extents:?}"
        );
        let mut dims = [0; MAX_RANK];
        dims[..extents.len()].copy_from_slice(extents);
        Self { dims, rank: extents.len() as u8 }
    }
}

impl From<&Vec<usize>> for Shape {
    fn from(extents: &Vec<usize>) -> Self {
        Self::from(extents.as_slice())
    }
}

impl From<Vec<usize>> for Shape {
    fn from(extents: Vec<usize>) -> Self {
        Self::from(extents.as_slice())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(extents: [usize; N]) -> Self {
        Self::from(extents.as_slice())
    }
}

impl From<()> for Shape {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<usize> for Shape {
    fn from(extent: usize) -> Self {
        Self::from([extent])
    }
}

impl From<(usize, usize)> for Shape {
    fn from((a, b): (usize, usize)) -> Self {
        Self::from([a, b])
    }
}

impl From<(usize, usize, usize)> for Shape {
    fn from((a, b, c): (usize, usize, usize)) -> Self {
        Self::from([a, b, c])
    }
}

impl From<(usize, usize, usize, usize)> for Shape {
    fn from((a, b, c, d): (usize, usize, usize, usize)) -> Self {
        Self::from([a, b, c, d])
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_numpy() {
        let b = |a: &[usize], b: &[usize]| {
            Shape::from(a).broadcast(&Shape::from(b)).map(|s| s.dims().to_vec())
        };
        assert_eq!(b(&[2, 3], &[3]), Some(vec![2, 3]));
        assert_eq!(b(&[2, 1, 4], &[5, 1]), Some(vec![2, 5, 4]));
        assert_eq!(b(&[], &[7]), Some(vec![7]));
        assert_eq!(b(&[2, 3], &[2]), None);
        assert_eq!(b(&[0, 3], &[1, 1]), Some(vec![0, 3]));
    }

    #[test]
    fn dimensions_are_inserted_and_removed_anywhere() {
        let shape = Shape::from([2, 3, 4]);
        assert_eq!(shape.without(1), Shape::from([2, 4]));
        assert_eq!(shape.with(0, 5), Shape::from([5, 2, 3, 4]));
        assert_eq!(shape.with(3, 5), Shape::from([2, 3, 4, 5]));
        assert_eq!(shape.with(1, 9).without(1), shape);
    }

    #[test]
    fn element_counts_never_wrap() {
        assert_eq!(Shape::from([usize::MAX, 3]).elem_count(), usize::MAX);
        assert_eq!(Shape::from(()).elem_count(), 1);
    }
}
