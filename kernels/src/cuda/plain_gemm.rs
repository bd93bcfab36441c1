//! Matrix products in f32 on plain cores: of f32 operands, and of bf16 ones that tensor cores cannot read.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::launch::{Grid, Parameter};
use super::walk::Walk;
use super::{DevicePtr, Float, Stream};

static SOURCE: Source = source!("sm90_float_gemm.cu");

/// Side of the tiles of C.
const TILE: usize = 64;

/// A batch of matrices: element (i, j) of a matrix lies at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrices<'a> {
    /// The first element of the first.
    pub at: DevicePtr,
    /// Elements between neighbouring rows.
    pub row_stride: usize,
    /// Elements between neighbouring columns.
    pub column_stride: usize,
    /// Elements between neighbours along each dimension of the batch.
    pub batch_strides: &'a [usize],
}

/// `struct Matrix` of the kernel.
#[repr(C)]
struct Matrix {
    at: DevicePtr,
    row_stride: u64,
    column_stride: u64,
}

// SAFETY: `struct Matrix` of the kernel.
unsafe impl Parameter for Matrix {}

impl Matrices<'_> {
    fn matrix(&self) -> Matrix {
        Matrix {
            at: self.at,
            row_stride: self.row_stride as u64,
            column_stride: self.column_stride as u64,
        }
    }
}

fn variant(dtype: Float, out: Float) -> Variant {
    Variant::new(&SOURCE, "gemm").with("FLOAT", dtype).with("OUT", out)
}

/// C = A B, or C += A B, for each of a batch of extents `batch`: A is [m, k], B [k, n], C dense [batch, m, n] and of
/// the operands' dtype or f32.
///
/// # Errors
/// The kernel cannot be compiled or launched, or the batch has more dimensions than it walks.
///
/// # Safety
/// All elements lie in memory that the stream may use.
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
    let walk = Walk::new("gemm", batch, [a.batch_strides, b.batch_strides])?;
    let count = walk.count();
    let most = |blocks: u64| blocks.min(65_535) as u32;
    let grid = Grid {
        blocks: [n.div_ceil(TILE) as u32, most(m.div_ceil(TILE) as u64), most(count)],
        threads: [256, 1, 1],
        shared: 0,
    };
    let (m, n, k, count) = (m as u32, n as u32, k as u32, count as u32);
    let kernel = stream.context().kernel(&variant(dtype, out))?;
    let args: &super::launch::Args<'_> =
        &[&a.matrix(), &b.matrix(), &c, &walk, &count, &m, &n, &k, &accumulate];
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, args) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    let low = Float::Bf16;
    [variant(Float::F32, Float::F32), variant(low, low), variant(low, Float::F32)]
        .into_iter()
        .collect()
}
