//! Matrix product C = A B, batched, with transposed and otherwise strided operands read in place.
//!
//! A is [..., m, k], B is [k, n] (shared by the batch) or [..., k, n] with the same batch; C is
//! [..., m, n]. Backward: dA = dC B^T, dB = A^T dC. Products accumulate in f32; C has the operands'
//! dtype, or f32 where it is an accumulator.

use slimpipe_kernels::cpu::gemm::{self, Beta, MatMut, MatRef};
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::gemm::{self as gpu_kernel, Matrices};
use slimpipe_runtime::{DType, Element, Error, Layout, RawTensor, Result, Shape, team};

use crate::dispatch::{mismatch, same_float};
use crate::gpu::{Gpu, Place};

const OP: &str = "matmul";

/// A B.
///
/// # Errors
/// Shapes or dtypes that do not fit, out of memory.
#[track_caller]
pub fn matmul(a: &RawTensor, b: &RawTensor) -> Result<RawTensor> {
    let dtype = same_float(OP, a, b)?;
    let shape = product_shape(a, b)?;
    let mut out = RawTensor::empty(shape, dtype, a.device().join(b.device()), OP)?;
    matmul_into(a, b, &mut out, true)?;
    Ok(out)
}

/// Writes (`overwrite`) or adds A B to the unshared contiguous `out`, whose dtype is the operands'
/// or f32. Allocates nothing; does nothing if an operand is meta.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn matmul_into(
    a: &RawTensor,
    b: &RawTensor,
    out: &mut RawTensor,
    overwrite: bool,
) -> Result<()> {
    let dtype = same_float(OP, a, b)?;
    let shape = product_shape(a, b)?;
    if *out.shape() != shape {
        let what = format!("the product has shape {shape}, the destination {}", out.shape());
        return Err(mismatch(OP, what));
    }
    let beta = if overwrite { Beta::Overwrite } else { Beta::Accumulate };
    let run = match (dtype, out.dtype()) {
        (DType::F32, DType::F32) => run::<f32, f32>,
        (DType::BF16, DType::BF16) => run::<half::bf16, half::bf16>,
        (DType::BF16, DType::F32) => run::<half::bf16, f32>,
        (_, got) => {
            let expected = "f32 or the operands' dtype for the destination";
            return Err(Error::WrongDType { op: OP, expected, got });
        }
    };
    match Place::of(OP, a.device().join(b.device()))? {
        Place::Meta => Ok(()),
        Place::Cpu => run(a, b, beta, out),
        Place::Gpu(gpu) => run_on_gpu(&gpu, a, b, beta, out),
    }
}

fn product_shape(a: &RawTensor, b: &RawTensor) -> Result<Shape> {
    let bad = |why: &str| mismatch(OP, format!("{} times {}: {why}", a.shape(), b.shape()));
    let (ra, rb) = (a.rank(), b.rank());
    if ra < 2 || rb < 2 {
        return Err(bad("both operands need two dimensions or more"));
    }
    let (da, db) = (a.dims(), b.dims());
    if da[ra - 1] != db[rb - 2] {
        return Err(bad(&format!("the inner extents {} and {} differ", da[ra - 1], db[rb - 2])));
    }
    if rb != 2 && da[..ra - 2] != db[..rb - 2] {
        return Err(bad("the batches differ; repeat one with broadcast_to"));
    }
    let mut shape = *a.shape();
    shape.dims_mut()[ra - 1] = db[rb - 1];
    Ok(shape)
}

fn run<T: gemm::Input + Element, O: gemm::Output + Element>(
    a: &RawTensor,
    b: &RawTensor,
    beta: Beta,
    out: &mut RawTensor,
) -> Result<()> {
    let team = team::current();
    let (x, y, out) = (a.span::<T>(OP)?, b.span::<T>(OP)?, out.slice_mut::<O>(OP)?);
    // Under a shared B the batch is only more rows, if A's rows lie at one distance.
    let (k, rows) = (b.dims()[b.rank() - 2], a.dims()[..a.rank() - 1].iter().product::<usize>());
    if b.rank() == 2
        && let Some(layout) = a.layout().reshape(Shape::from([rows, k]))
    {
        let out = MatMut::new(out, rows, b.dims()[1]);
        gemm::gemm(&team, matrix(x, &layout, 0), matrix(y, b.layout(), 0), beta, out);
        return Ok(());
    }
    let (m, n) = (a.dims()[a.rank() - 2], b.dims()[b.rank() - 1]);
    let (starts_a, starts_b) = (starts(a.layout()), starts(b.layout()));
    let product = |team: &Threads, i: usize, out: &mut [O]| {
        let (from_a, from_b) = (starts_a[i], starts_b[if b.rank() == 2 { 0 } else { i }]);
        let (a, b) = (matrix(x, a.layout(), from_a), matrix(y, b.layout(), from_b));
        gemm::gemm(team, a, b, beta, MatMut::new(out, m, n));
    };
    let size = (m * n).max(1);
    // Products do not depend on the number of threads, so either kind of sharing gives the same.
    if out.len() / size >= 2 * team.size() {
        let alone = Threads::default();
        team.chunks(out, size, |i, out| product(&alone, i, out));
    } else {
        out.chunks_mut(size).enumerate().for_each(|(i, out)| product(&team, i, out));
    }
    Ok(())
}

fn run_on_gpu(
    gpu: &Gpu,
    a: &RawTensor,
    b: &RawTensor,
    beta: Beta,
    out: &mut RawTensor,
) -> Result<()> {
    let (k, n) = (b.dims()[b.rank() - 2], b.dims()[b.rank() - 1]);
    let rows = a.dims()[..a.rank() - 1].iter().product::<usize>();
    // As on the CPU, a batch under a shared B is only more rows.
    let flat = if b.rank() == 2 { a.layout().reshape(Shape::from([rows, k])) } else { None };
    let layout = flat.as_ref().unwrap_or(a.layout());
    let (dims, strides) = (layout.shape().dims(), layout.strides());
    let (batch, at) = (&dims[..dims.len() - 2], dims.len() - 2);
    let (left, right) = (gpu.view(a)?, gpu.view(b)?);
    let shared = vec![0; batch.len()];
    let left = Matrices {
        at: left.at,
        row_stride: strides[at],
        column_stride: strides[at + 1],
        batch_strides: &strides[..at],
    };
    let last = b.rank() - 2;
    let right = Matrices {
        at: right.at,
        row_stride: right.strides[last],
        column_stride: right.strides[last + 1],
        batch_strides: if last == 0 { &shared } else { &right.strides[..last] },
    };
    let (dtype, target) = (gpu.float(a.dtype())?, (gpu.float(out.dtype())?, gpu.write(out)?));
    let (sizes, accumulate) = ((dims[at], n, k), beta == Beta::Accumulate);
    // SAFETY: tensors on the GPU, whose shapes fit each other.
    unsafe {
        gpu_kernel::gemm(gpu.stream(), dtype, left, right, batch, sizes, accumulate, target)?
    };
    Ok(())
}

/// Where the matrices of a batch begin, from the first element on.
fn starts(layout: &Layout) -> Vec<usize> {
    let batch = layout.leading(layout.shape().rank() - 2);
    batch.indices().map(|index| index - layout.start()).collect()
}

/// The matrix of the last two dimensions that begins at `start`.
fn matrix<'a, T: gemm::Input>(data: &'a [T], layout: &Layout, start: usize) -> MatRef<'a, T> {
    let (dims, strides) = (layout.shape().dims(), layout.strides());
    let at = dims.len() - 2;
    let data = &data[start.min(data.len())..];
    MatRef::new(data, dims[at], dims[at + 1], strides[at], strides[at + 1])
}
