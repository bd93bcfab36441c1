//! Matrix products: bf16 operands on tensor cores, f32 ones on plain cores.
//!
//! Tensor cores read an operand in place if one of its two strides is 1 and the other, like the strides
//! of a batch, a multiple of 8 elements, and if it begins at a multiple of 16 bytes. cuBLASLt computes such a
//! product where it is installed ([`Products`]), this crate's kernel where it is not. Otherwise, and for
//! operands without elements, plain cores compute the product (`plain_gemm`), far slower: give such
//! tensors rows of a multiple of 8 elements. The destination is free; where its rows are whole 16 bytes
//! it leaves by TMA.

use super::compile::{Source, Variant, source};
use super::cublaslt::{self, Products, Shape};
use super::error::Result;
use super::launch::{Grid, Parameter};
use super::operand::{Matrix, Operand, alignment};
pub use super::plain_gemm::Matrices;
use super::walk::{Dim, Walk};
use super::{DevicePtr, Float, Stream, TensorMap, plain_gemm, tensor_map::Swizzle};

static SOURCE: Source = source!("sm90_bf16_gemm.cu");

/// Rows of C that a block computes at a time, and how much of the contracted dimension it loads at once.
const TILE_M: usize = 128;
pub(super) const TILE_K: usize = 64;
/// Bytes of the pieces in which a tile of C goes to memory, and how many there are.
pub(super) const PIECE: usize = 64 * 128;
const PIECES: usize = 4;
/// Threads of a block: one warpgroup loads, two multiply.
pub(super) const THREADS: u32 = 384;
const STAGES: usize = 4;

/// `struct Args` of the kernel.
#[repr(C)]
struct Args {
    a: TensorMap,
    b: TensorMap,
    c: TensorMap,
    out: DevicePtr,
    m: i32,
    n: i32,
    k: i32,
    batch: i32,
    a_batched: i32,
    b_batched: i32,
}

// SAFETY: `struct Args` of the kernel.
unsafe impl Parameter for Args {}

/// What a variant is compiled for.
#[derive(Clone, Copy, PartialEq)]
struct Constants {
    tile_n: usize,
    a_major: usize,
    b_major: usize,
    out: Float,
    accumulate: bool,
    staged: bool,
}

impl Constants {
    fn variant(self) -> Variant {
        let variant = Variant::new(&SOURCE, "gemm").with("TILE_N", self.tile_n);
        let variant = variant.with("STAGES", STAGES).with("A_MAJOR", self.a_major);
        let variant = variant.with("B_MAJOR", self.b_major).with("OUT", self.out);
        let variant = variant.with("ACCUMULATE", self.accumulate).with("STAGED", self.staged);
        variant.registers(168).wgmma().tma()
    }

    fn shared(self) -> usize {
        STAGES * (TILE_M + self.tile_n) * TILE_K * 2 + PIECES * PIECE + 1024
    }
}

/// C = A B, or C += A B, for each of a batch of extents `batch`: A is [m, k], B [k, n], C dense
/// [batch, m, n] and of the operands' dtype or f32. Sums are f32; our kernels always take them in the same order.
///
/// # Errors
/// The kernel cannot be compiled or launched, or the batch has more dimensions than are walked.
///
/// # Safety
/// All elements lie in memory that the stream may use, and C overlaps no operand.
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn gemm(
    stream: &Stream,
    dtype: Float,
    a: Matrices<'_>,
    b: Matrices<'_>,
    batch: &[usize],
    (m, n, k): (usize, usize, usize),
    accumulate: bool,
    (out, c): (Float, DevicePtr),
) -> Result<()> {
    if m == 0 || n == 0 || batch.contains(&0) {
        return Ok(());
    }
    let walk = Walk::new("gemm", batch, [a.batch_strides, b.batch_strides])?;
    let dims: Vec<Dim<2>> = walk.dims().collect();
    let a_matrix =
        Matrix { at: a.at, mn: m, k, mn_stride: a.row_stride, k_stride: a.column_stride };
    let b_matrix =
        Matrix { at: b.at, mn: n, k, mn_stride: b.column_stride, k_stride: b.row_stride };
    let operands = a_matrix.operand().zip(b_matrix.operand());
    let readable = dims.iter().all(|dim| dim.strides.iter().all(|s| s.is_multiple_of(8)));
    let Some((a_operand, b_operand)) = operands.filter(|_| dtype == Float::Bf16 && readable) else {
        // SAFETY: as the caller promises.
        return unsafe {
            plain_gemm::gemm(stream, dtype, a, b, batch, (m, n, k), accumulate, (out, c))
        };
    };
    let (inner, outer) =
        dims.split_first().map_or((Dim { extent: 1, strides: [0; 2] }, &[][..]), |(i, o)| (*i, o));
    let product = Product { m, n, k, batch: inner, out, accumulate };
    // One launch computes one dimension of the batch.
    let launches: usize = outer.iter().map(|dim| dim.extent).product();
    for index in 0..launches {
        let (mut rest, mut skip) = (index, [0; 2]);
        for dim in outer {
            for (skip, stride) in skip.iter_mut().zip(dim.strides) {
                *skip += rest % dim.extent * stride;
            }
            rest /= dim.extent;
        }
        let a = a_operand.further(skip[0]);
        let b = b_operand.further(skip[1]);
        let c = c.offset((index * inner.extent * m * n * out.size()) as u64);
        // SAFETY: as the caller promises.
        unsafe { product.launch(stream, a, b, c)? };
    }
    Ok(())
}

/// A product along one dimension of a batch.
struct Product {
    m: usize,
    n: usize,
    k: usize,
    /// Its extent, and the elements between matrices of A and of B.
    batch: Dim<2>,
    out: Float,
    accumulate: bool,
}

impl Product {
    /// # Safety
    /// As [`gemm`].
    unsafe fn launch(&self, stream: &Stream, a: Operand, b: Operand, c: DevicePtr) -> Result<()> {
        let Self { m, n, k, batch, out, accumulate } = *self;
        if Products::current()? == Products::CublasLt {
            let sides = [a.side(batch.strides[0]), b.side(batch.strides[1])];
            let (sizes, alignment) = ([m, n, k], alignment(c));
            let batch = batch.extent;
            let shape = Shape { sizes, batch, sides, out, alignment, accumulate };
            // SAFETY: as the caller promises.
            if unsafe { cublaslt::product(stream, &shape, [a.at, b.at, c])? } {
                return Ok(());
            }
        }
        let rows_of_whole_sixteen_bytes =
            (n * out.size()).is_multiple_of(16) && c.0.is_multiple_of(16);
        let staged = rows_of_whole_sixteen_bytes && can_be_staged(out, accumulate);
        let tiles = |tile_n: usize| m.div_ceil(TILE_M) * n.div_ceil(tile_n) * batch.extent;
        let blocks = stream.context().facts().multiprocessors as usize;
        let tile_n = if staged { width(tiles, blocks) } else { 128 };
        let constants =
            Constants { tile_n, a_major: a.major, b_major: b.major, out, accumulate, staged };
        let [a_stride, b_stride] = batch.strides;
        stream.context().bind()?;
        let args = Args {
            a: a.map(TILE_M, batch.extent, a_stride)?,
            b: b.map(tile_n, batch.extent, b_stride)?,
            c: if staged { destination(out, c, m, n, batch.extent)? } else { TensorMap::NONE },
            out: c,
            m: m as i32,
            n: n as i32,
            k: k as i32,
            batch: batch.extent as i32,
            a_batched: i32::from(a_stride > 0),
            b_batched: i32::from(b_stride > 0),
        };
        let grid = Grid::line(tiles(tile_n).min(blocks) as u32, THREADS);
        let kernel = stream.context().kernel(&constants.variant())?;
        // SAFETY: as the caller promises; the maps describe the operands.
        unsafe { kernel.launch(stream, grid.shared(constants.shared() as u32), &[&args]) }
    }
}

/// Whether TMA stores it: it rounds sums to bf16 on their own, so it adds in f32 alone.
fn can_be_staged(out: Float, accumulate: bool) -> bool {
    !(accumulate && out == Float::Bf16)
}

/// A tile's width for C. Wide tiles load less for each product, narrow ones leave fewer
/// multiprocessors idle in the last round: what takes less time in all.
fn width(tiles: impl Fn(usize) -> usize, blocks: usize) -> usize {
    let rounds = |tile_n| tiles(tile_n).div_ceil(blocks);
    // A wide tile takes the time of two narrow ones less a tenth.
    if 9 * rounds(256) <= 5 * rounds(128) { 256 } else { 128 }
}

/// C, dense [batch, m, n], in boxes of 64 rows by 128 bytes.
pub(super) fn destination(
    out: Float,
    c: DevicePtr,
    m: usize,
    n: usize,
    batch: usize,
) -> Result<TensorMap> {
    let (size, n) = (out.size(), n as u64);
    let row = n * size as u64;
    TensorMap::new(
        out,
        c,
        &[n, m as u64, batch as u64],
        &[row, row * m as u64],
        &[128 / size as u32, 64, 1],
        Swizzle::B128,
    )
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for (out, accumulate) in Float::ALL.into_iter().flat_map(|out| [(out, false), (out, true)]) {
        for (a_major, b_major) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let of = |tile_n, staged| {
                Constants { tile_n, a_major, b_major, out, accumulate, staged }.variant()
            };
            all.push(of(128, false));
            if can_be_staged(out, accumulate) {
                all.extend([of(128, true), of(256, true)]);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_tiles_are_taken_where_they_fill_the_multiprocessors() {
        let width_of =
            |m: usize, n: usize| width(|tile_n| m.div_ceil(TILE_M) * n.div_ceil(tile_n), 132);
        assert_eq!(width_of(8192, 8192), 256);
        assert_eq!(width_of(1024, 1024), 128, "64 tiles of one kind, 32 of the other");
        assert_eq!(width_of(128, 64), 128, "half of a wide tile would be nothing");
    }
}
