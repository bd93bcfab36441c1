//! Strided views as kernels walk them.

use super::error::{CudaError, Result};
use super::launch::Parameter;

/// Most dimensions of a view.
pub const MAX_RANK: usize = 6;

/// Where the elements of `N` views of one shape lie: dimensions innermost first, strides in elements.
/// Dimensions that lie as one in every view are one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk<const N: usize> {
    rank: u32,
    extents: [u32; MAX_RANK],
    strides: [[u64; MAX_RANK]; N],
}

// SAFETY: `struct Walk` of `tile/walk.cuh`.
unsafe impl<const N: usize> Parameter for Walk<N> {}

/// A dimension of `N` views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dim<const N: usize> {
    pub extent: usize,
    pub strides: [usize; N],
}

impl<const N: usize> Walk<N> {
    /// The views of shape `extents`, outermost dimension first, with `strides` each.
    pub(super) fn new(
        kernel: &'static str,
        extents: &[usize],
        strides: [&[usize]; N],
    ) -> Result<Self> {
        let dims = extents.iter().enumerate().rev().filter(|(_, extent)| **extent != 1);
        let mut merged: Vec<Dim<N>> = Vec::with_capacity(MAX_RANK);
        for (axis, &extent) in dims {
            let strides = strides.map(|strides| strides[axis]);
            match merged.last_mut() {
                Some(inner) if inner.strides.map(|stride| stride * inner.extent) == strides => {
                    inner.extent *= extent;
                }
                _ => merged.push(Dim { extent, strides }),
            }
        }
        Self::of(kernel, &merged)
    }

    /// The walk over `dims`, innermost first.
    pub(super) fn of(kernel: &'static str, dims: &[Dim<N>]) -> Result<Self> {
        let mut walk = Self { rank: 1, extents: [1; MAX_RANK], strides: [[0; MAX_RANK]; N] };
        let fail = |what: String| Err(CudaError::Launch { kernel, what });
        if dims.len() > MAX_RANK {
            return fail(format!("{} dimensions, and it walks at most {MAX_RANK}", dims.len()));
        }
        walk.rank = dims.len().max(1) as u32;
        for (axis, dim) in dims.iter().enumerate() {
            let Ok(extent) = u32::try_from(dim.extent) else {
                return fail(format!(
                    "an extent of {}, and it walks at most {}",
                    dim.extent,
                    u32::MAX
                ));
            };
            walk.extents[axis] = extent;
            for (to, stride) in walk.strides.iter_mut().zip(dim.strides) {
                to[axis] = stride as u64;
            }
        }
        Ok(walk)
    }

    /// The dimensions, innermost first; none for a single element.
    pub(super) fn dims(&self) -> impl ExactSizeIterator<Item = Dim<N>> + '_ {
        let rank = if self.rank == 1 && self.extents[0] == 1 { 0 } else { self.rank as usize };
        (0..rank).map(|axis| Dim {
            extent: self.extents[axis] as usize,
            strides: self.strides.map(|strides| strides[axis] as usize),
        })
    }

    /// Elements of a view.
    pub(super) fn count(&self) -> u64 {
        self.extents[..self.rank as usize].iter().map(|&extent| u64::from(extent)).product()
    }

    /// The same elements in packs of `pack` neighbours, and in which views neighbours are one and the same
    /// element, if no view stands against it: neighbours lie side by side, packs whole packs apart.
    pub(super) fn packed(&self, pack: usize) -> Option<(Self, [bool; N])> {
        let same = self.strides.map(|strides| strides[0] == 0);
        let mut walk = *self;
        if !self.extents[0].is_multiple_of(pack as u32) {
            return None;
        }
        walk.extents[0] /= pack as u32;
        for ((to, from), same) in walk.strides.iter_mut().zip(self.strides).zip(same) {
            let outer = &from[1..self.rank as usize];
            if same {
                continue;
            }
            if from[0] != 1 || outer.iter().any(|stride| !stride.is_multiple_of(pack as u64)) {
                return None;
            }
            to[0] = pack as u64;
        }
        Some((walk, same))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_merge_where_all_views_allow_it() {
        let dense = Walk::new("test", &[5, 1, 4], [&[4, 9, 1], &[4, 7, 1]]).unwrap();
        let dims: Vec<_> = dense.dims().collect();
        assert_eq!(dims, [Dim { extent: 20, strides: [1, 1] }]);
        let bias = Walk::new("test", &[5, 4], [&[4, 1], &[0, 1]]).unwrap();
        let dims: Vec<_> = bias.dims().collect();
        assert_eq!(dims, [Dim { extent: 4, strides: [1, 1] }, Dim { extent: 5, strides: [4, 0] }]);
        let one = Walk::<1>::new("test", &[1, 1], [&[3, 3]]).unwrap();
        assert_eq!((one.count(), one.dims().len()), (1, 0));
    }

    #[test]
    fn packs_need_neighbours_side_by_side_and_rows_whole_packs_apart() {
        let packs =
            |extents: &[usize], strides| Walk::new("test", extents, strides).unwrap().packed(4);
        let (walk, same) = packs(&[3, 8], [&[8, 1], &[1, 0]]).unwrap();
        assert_eq!((walk.count(), same), (6, [false, true]));
        assert_eq!(walk.dims().next().unwrap(), Dim { extent: 2, strides: [4, 0] });
        assert!(packs(&[3, 6], [&[8, 1], &[1, 0]]).is_none(), "rows that are no whole packs");
        assert!(packs(&[3, 8], [&[9, 1], &[1, 0]]).is_none(), "rows that begin amid packs");
        assert!(packs(&[3, 8], [&[1, 3], &[1, 0]]).is_none(), "columns");
    }

    #[test]
    fn views_that_cannot_be_walked_are_refused() {
        let (extents, strides) = ([2; 7], [500, 210, 90, 40, 15, 5, 2]);
        let error = Walk::new("copy", &extents, [&strides]).unwrap_err().to_string();
        assert_eq!(error, "copy: 7 dimensions, and it walks at most 6");
    }
}
