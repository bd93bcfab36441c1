//! Walking views in runs: the longest stretches along which every operand moves by a constant step.
//!
//! A view's dimensions merge where they lie as one in every operand, so a dense tensor is one run, a
//! bias repeated over rows is a run per row, and a transposed matrix is a run per column.

use std::ops::Range;

use slimpipe_runtime::Layout;
use slimpipe_runtime::shape::MAX_RANK;
use slimpipe_runtime::team;

/// Elements that one task handles: enough to be worth a thread.
pub(crate) const BLOCK: usize = 1 << 14;

/// Runs `f(start, block)` on fixed blocks of `out`, shared by the team.
pub(crate) fn for_blocks<T: Send>(out: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    team::current().chunks(out, BLOCK, |i, block| f(i * BLOCK, block));
}

/// Runs `f(i, row i)` on the rows of `out`, shared by the team.
pub(crate) fn for_rows<T: Send>(out: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let per_task = (BLOCK / width.max(1)).max(1);
    team::current().chunks(out, per_task * width.max(1), |task, rows| {
        for (i, row) in rows.chunks_mut(width.max(1)).enumerate() {
            f(task * per_task + i, row);
        }
    });
}

/// The elements of `N` views of one shape, in row-major order.
pub(crate) struct Runs<const N: usize> {
    /// Extent and strides of the dimensions around a run, outermost first.
    outer: Vec<(usize, [usize; N])>,
    /// Elements of a run.
    pub width: usize,
    /// Distance of neighbouring elements of a run, in each operand.
    pub steps: [usize; N],
}

impl<const N: usize> Runs<N> {
    /// The runs of views that have one shape.
    pub fn new(layouts: [&Layout; N]) -> Self {
        let shape = layouts[0].shape();
        debug_assert!(layouts.iter().all(|layout| layout.shape() == shape));
        let mut dims: Vec<(usize, [usize; N])> = Vec::with_capacity(MAX_RANK);
        for (axis, &extent) in shape.dims().iter().enumerate().filter(|&(_, &extent)| extent != 1) {
            let strides = layouts.map(|layout| layout.strides()[axis]);
            match dims.last_mut() {
                Some((merged, outer)) if strides.map(|stride| stride * extent) == *outer => {
                    *merged *= extent;
                    *outer = strides;
                }
                _ => dims.push((extent, strides)),
            }
        }
        let (width, steps) = dims.pop().unwrap_or((1, [1; N]));
        Self { outer: dims, width, steps }
    }

    /// Calls `f(at, len, offsets)` for each run, or part of one, among the elements `range`: `at`
    /// counts from the range's start, offsets from each view's first element.
    pub fn for_each(&self, range: Range<usize>, mut f: impl FnMut(usize, usize, [usize; N])) {
        if range.is_empty() {
            return;
        }
        let (mut position, mut offsets) = ([0; MAX_RANK], [0; N]);
        let mut run = range.start / self.width;
        for (axis, (extent, strides)) in self.outer.iter().enumerate().rev() {
            position[axis] = run % extent;
            run /= extent;
            for (offset, stride) in offsets.iter_mut().zip(strides) {
                *offset += position[axis] * stride;
            }
        }
        let (mut element, mut skip) = (range.start, range.start % self.width);
        while element < range.end {
            let len = (self.width - skip).min(range.end - element);
            let from = std::array::from_fn(|i| offsets[i] + skip * self.steps[i]);
            f(element - range.start, len, from);
            (element, skip) = (element + len, 0);
            for (axis, (extent, strides)) in self.outer.iter().enumerate().rev() {
                position[axis] += 1;
                offsets.iter_mut().zip(strides).for_each(|(offset, stride)| *offset += stride);
                if position[axis] < *extent {
                    break;
                }
                for (offset, stride) in offsets.iter_mut().zip(strides) {
                    *offset -= stride * extent;
                }
                position[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use slimpipe_runtime::Shape;

    use super::*;

    /// The storage indices of a view, by its runs.
    fn walked(layout: &Layout, range: Range<usize>) -> Vec<usize> {
        let runs = Runs::new([layout]);
        let mut indices = Vec::new();
        runs.for_each(range, |at, len, [offset]| {
            assert_eq!(at, indices.len());
            indices.extend((0..len).map(|i| layout.start() + offset + i * runs.steps[0]));
        });
        indices
    }

    #[test]
    fn any_part_of_any_view_is_walked_in_order() {
        let base = Layout::contiguous(Shape::from([3, 4, 5]));
        let views = [
            base,
            base.transpose(0, 2).unwrap(),
            base.permute(&[1, 0, 2]).unwrap(),
            base.narrow(1, 1, 2).unwrap(),
            base.narrow(2, 3, 1).unwrap(),
            Layout::contiguous(Shape::from([4, 1])).broadcast_to(Shape::from([3, 4, 5])).unwrap(),
            Layout::contiguous(Shape::from(())),
        ];
        for view in views {
            let all: Vec<usize> = view.indices().collect();
            for (start, end) in [(0, all.len()), (0, all.len() / 2), (all.len() / 3, all.len())] {
                assert_eq!(walked(&view, start..end), all[start..end], "{view:?}");
            }
        }
    }

    #[test]
    fn dimensions_merge_where_all_operands_allow_it() {
        let dense = Layout::contiguous(Shape::from([6, 4]));
        let bias = Layout::contiguous(Shape::from(4)).broadcast_to(Shape::from([6, 4])).unwrap();
        assert_eq!(Runs::new([&dense, &dense]).width, 24);
        let runs = Runs::new([&dense, &bias]);
        assert_eq!((runs.width, runs.steps), (4, [1, 1]));
        let column = Layout::contiguous(Shape::from([6, 1])).broadcast_to(Shape::from([6, 4]));
        assert_eq!(Runs::new([&dense, &column.unwrap()]).steps, [1, 0]);
    }
}
