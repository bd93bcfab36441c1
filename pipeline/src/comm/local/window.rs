//! Memory that a rank lends to its group for the time of one collective.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;

/// Slices of a rank's memory, one behind the other, as elements of some width. They can be reached
/// from other threads only through the unsafe methods; `Group::meet_in_place` says how long.
#[derive(Clone)]
pub(super) struct Window {
    /// Beginning and elements of each slice.
    parts: Arc<[(*mut u8, usize)]>,
    width: usize,
}

// SAFETY: a window is two numbers per slice. Whoever turns them into memory promises in `read` and
// `write` that nobody else writes there meanwhile.
unsafe impl Send for Window {}

impl Window {
    /// Of bytes, taken as elements of `width` bytes.
    pub(super) fn of_bytes(parts: &mut [&mut [u8]], width: usize) -> Self {
        let part = |part: &mut &mut [u8]| {
            debug_assert!(part.len().is_multiple_of(width), "half an element");
            (part.as_mut_ptr(), part.len() / width)
        };
        Self { parts: parts.iter_mut().map(part).collect(), width }
    }

    /// Elements of each slice.
    pub(super) fn lens(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().map(|(_, len)| *len)
    }

    /// Elements.
    pub(super) fn len(&self) -> usize {
        self.lens().sum()
    }

    pub(super) fn has_shape_of(&self, other: &Self) -> bool {
        self.width == other.width && self.lens().eq(other.lens())
    }

    pub(super) fn describe(&self) -> String {
        format!("{} elements of {} bytes in {} slices", self.len(), self.width, self.parts.len())
    }

    fn locate<T>(&self, part: usize, range: &Range<usize>) -> *mut T {
        let (start, len) = self.parts[part];
        assert!(range.start <= range.end && range.end <= len, "outside the window");
        // SAFETY: the element lies in the slice that the window was made of, or is its end.
        unsafe { start.add(range.start * self.width).cast() }
    }

    /// Elements `range` of slice `part`, as `T`: bytes, or what the window was made of.
    ///
    /// # Safety
    /// The window's owner has not returned from its collective, and nobody writes to these elements
    /// while they are borrowed.
    pub(super) unsafe fn read<T: Pod>(&self, part: usize, range: Range<usize>) -> &[T] {
        let start = self.locate(part, &range);
        // SAFETY: in bounds (asserted), aligned as the slice was, any bits are a `T`; alive and not
        // written to by the caller's promise.
        unsafe { std::slice::from_raw_parts(start, range.len() * self.width / size_of::<T>()) }
    }

    /// As [`Window::read`], for writing.
    ///
    /// # Safety
    /// The window's owner has not returned from its collective, and nobody reads these elements or
    /// writes to them while they are borrowed.
    #[allow(clippy::mut_from_ref)] // exclusive by the caller's promise
    pub(super) unsafe fn write<T: Pod>(&self, part: usize, range: Range<usize>) -> &mut [T] {
        let start = self.locate(part, &range);
        // SAFETY: as in `read`, and nobody else has them by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(start, range.len() * self.width / size_of::<T>()) }
    }
}
