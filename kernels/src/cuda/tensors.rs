//! Lists of tensors that one kernel works on.

use super::launch::Parameter;

/// Elements of a block.
const SHARE: usize = 1 << 14;

/// Blocks that a tensor of `len` elements takes.
pub(super) fn shares(len: usize) -> u64 {
    len.div_ceil(SHARE) as u64
}

/// At most `MOST` tensors, divided among blocks: those of tensor i end before block `ends[i]`.
#[repr(C)]
pub(super) struct Tensors<T, const MOST: usize> {
    list: [T; MOST],
    lens: [u64; MOST],
    ends: [u32; MOST],
}

// SAFETY: `struct Tensors` of `tile/tensors.cuh`, if the kernel's own struct is that of `T`.
unsafe impl<T: Parameter, const MOST: usize> Parameter for Tensors<T, MOST> {}

impl<T: Copy + Default, const MOST: usize> Tensors<T, MOST> {
    /// The list of `tensors` and their lengths, of which there are at most `MOST`.
    pub(super) fn new(tensors: impl ExactSizeIterator<Item = (T, usize)>) -> Self {
        let count = tensors.len();
        let mut all = Self { list: [T::default(); MOST], lens: [0; MOST], ends: [0; MOST] };
        let mut end = 0;
        for (i, (tensor, len)) in tensors.enumerate() {
            end += shares(len) as u32;
            (all.list[i], all.lens[i], all.ends[i]) = (tensor, len as u64, end);
        }
        all.ends[count..].fill(end);
        all
    }

    /// Blocks of all.
    pub(super) fn blocks(&self) -> u32 {
        self.ends[MOST - 1]
    }
}
