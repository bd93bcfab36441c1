//! Matrices as tensor cores read them.

use super::cublaslt::{ALIGNMENT, Side};
use super::error::Result;
use super::gemm::TILE_K;
use super::tensor_map::{Swizzle, TensorMap};
use super::{DevicePtr, Float};

/// A bf16 operand of a product: `mn` rows of A (or columns of B) by `k`, element (i, j) at
/// `i * mn_stride + j * k_stride`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub at: DevicePtr,
    pub mn: usize,
    pub k: usize,
    pub mn_stride: usize,
    pub k_stride: usize,
}

/// A matrix that tensor cores can read where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Operand {
    /// Its first byte.
    pub at: DevicePtr,
    mn: usize,
    k: usize,
    /// 0: memory runs along k; 1: along m or n.
    pub major: usize,
    /// Elements between its rows.
    pitch: usize,
}

impl Matrix {
    /// How tensor cores read it, if they can.
    pub(super) fn operand(self) -> Option<Operand> {
        let Self { at, mn, k, mn_stride, k_stride } = self;
        if mn == 0 || k == 0 || !at.0.is_multiple_of(16) {
            return None;
        }
        // Rows of `inner` elements side by side; of a single row, the distance to the next does not matter.
        let pitch = |inner: usize, inner_stride: usize, outer: usize, stride: usize| {
            let pitch = if outer == 1 { inner.next_multiple_of(8) } else { stride };
            let dense = inner == 1 || inner_stride == 1;
            (dense && pitch >= inner && pitch.is_multiple_of(8)).then_some(pitch)
        };
        let along_k = pitch(k, k_stride, mn, mn_stride).map(|pitch| (0, pitch));
        let along_mn = || pitch(mn, mn_stride, k, k_stride).map(|pitch| (1, pitch));
        let (major, pitch) = along_k.or_else(along_mn)?;
        Some(Operand { at, mn, k, major, pitch })
    }
}

impl Operand {
    /// The same, `elements` further on.
    pub(super) fn further(self, elements: usize) -> Self {
        Self { at: self.at.offset(2 * elements as u64), ..self }
    }

    /// How it lies in memory, for cuBLASLt; matrices of a batch are `stride` elements apart.
    pub(super) fn side(self, stride: usize) -> Side {
        let Self { major, pitch, .. } = self;
        Side { major, pitch, stride, alignment: alignment(self.at) }
    }

    /// Its tensor map: [batch][outer][inner] in boxes for tiles of `tile` by [`TILE_K`]. Matrices of the
    /// batch are `stride` elements apart; 0 says that there is one for all.
    pub(super) fn map(self, tile: usize, batch: usize, stride: usize) -> Result<TensorMap> {
        let Self { at, mn, k, major, pitch } = self;
        let (inner, outer, rows) = if major == 0 { (k, mn, tile) } else { (mn, k, TILE_K) };
        let matrices = if stride == 0 { 1 } else { batch };
        // The distance of a matrix alone does not matter either.
        let next = if matrices == 1 { pitch * outer } else { stride };
        TensorMap::new(
            Float::Bf16,
            at,
            &[inner as u64, outer as u64, matrices as u64],
            &[2 * pitch as u64, 2 * next as u64],
            &[64, rows as u32, 1],
            Swizzle::B128,
        )
    }
}

/// The largest power of two that an address is a multiple of, as far as it matters.
pub(super) fn alignment(at: DevicePtr) -> u32 {
    1 << at.0.trailing_zeros().min(ALIGNMENT.ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operand(mn: usize, k: usize, mn_stride: usize, k_stride: usize) -> Option<(usize, usize)> {
        let at = DevicePtr(1 << 20);
        let operand = Matrix { at, mn, k, mn_stride, k_stride }.operand()?;
        Some((operand.major, operand.pitch))
    }

    #[test]
    fn either_dimension_may_run_along_memory() {
        assert_eq!(operand(100, 64, 64, 1), Some((0, 64)));
        assert_eq!(operand(100, 64, 1, 104), Some((1, 104)));
    }

    #[test]
    fn rows_that_are_no_whole_sixteen_bytes_cannot_be_read() {
        assert_eq!(operand(100, 63, 63, 1), None);
        assert_eq!(
            operand(100, 63, 64, 1),
            Some((0, 64)),
            "the rows may be longer than the matrix"
        );
        assert_eq!(operand(100, 63, 1, 100), None);
        assert_eq!(operand(100, 64, 128, 2), None, "no dimension runs along memory");
        assert_eq!(operand(100, 64, 0, 1), None, "a row repeated");
    }

    #[test]
    fn strides_of_single_rows_do_not_matter() {
        assert_eq!(operand(1, 63, 63, 1), Some((0, 64)));
        assert_eq!(operand(100, 1, 1, 3), Some((1, 104)));
        assert_eq!(operand(1, 1, 7, 9), Some((0, 8)));
    }

    #[test]
    fn operands_without_elements_or_amid_sixteen_bytes_are_not_read() {
        assert_eq!(operand(0, 64, 64, 1), None);
        let matrix = Matrix { at: DevicePtr(8), mn: 8, k: 8, mn_stride: 8, k_stride: 1 };
        assert_eq!(matrix.operand(), None);
    }
}
