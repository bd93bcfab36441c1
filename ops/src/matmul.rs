//! Matrix product C = A B, batched, with transposed operands read in place.
//!
//! A is [..., m, k], B is [k, n] (shared by the batch) or [..., k, n] with the same batch. Backward:
//! dA = dC B^T, dB = A^T dC. Products accumulate in f32; C has the operands' dtype, or f32 where it
//! is an accumulator.

use slimpipe_kernels::cpu::gemm::{self, Beta, MatMut, MatRef};
use slimpipe_runtime::{DType, Element, Error, RawTensor, Result, Shape, team};

use crate::copy::contiguous;
use crate::dispatch::{mismatch, same_dtype};

/// A B.
///
/// # Errors
/// Shapes or dtypes that do not fit, out of memory.
#[track_caller]
pub fn matmul(a: &RawTensor, b: &RawTensor) -> Result<RawTensor> {
    let dtype = same_dtype("matmul", a, b)?;
    let shape = product_shape(a, b)?;
    let mut out = RawTensor::empty(shape, dtype, a.device().join(b.device()), "matmul")?;
    matmul_into(a, b, &mut out, true)?;
    Ok(out)
}

/// Writes (`overwrite`) or adds A B to the unshared contiguous `out`, whose dtype is the operands'
/// or f32. Does nothing if an operand is meta.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn matmul_into(
    a: &RawTensor,
    b: &RawTensor,
    out: &mut RawTensor,
    overwrite: bool,
) -> Result<()> {
    let dtype = same_dtype("matmul", a, b)?;
    let shape = product_shape(a, b)?;
    if *out.shape() != shape {
        return Err(mismatch(
            "matmul",
            format!("the product has shape {shape}, the destination {}", out.shape()),
        ));
    }
    if a.is_meta() || b.is_meta() {
        return Ok(());
    }
    let beta = if overwrite { Beta::Overwrite } else { Beta::Accumulate };
    match (dtype, out.dtype()) {
        (DType::F32, DType::F32) => run::<f32, f32>(a, b, beta, out),
        (DType::BF16, DType::BF16) => run::<half::bf16, half::bf16>(a, b, beta, out),
        (DType::BF16, DType::F32) => run::<half::bf16, f32>(a, b, beta, out),
        (got, _) => Err(Error::WrongDType {
            op: "matmul",
            expected: "f32 or bf16 operands, destination alike or f32",
            got,
        }),
    }
}

fn product_shape(a: &RawTensor, b: &RawTensor) -> Result<Shape> {
    let bad = || mismatch("matmul", format!("{} times {}", a.shape(), b.shape()));
    let (ra, rb) = (a.rank(), b.rank());
    if ra < 2 || rb < 2 {
        return Err(bad());
    }
    let (da, db) = (a.dims(), b.dims());
    let batch_fits = rb == 2 || (ra == rb && da[..ra - 2] == db[..rb - 2]);
    if !batch_fits || da[ra - 1] != db[rb - 2] {
        return Err(bad());
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
    let threads = team::current();
    let (m, n) = (a.dims()[a.rank() - 2], b.dims()[b.rank() - 1]);
    if b.rank() == 2 && (a.rank() == 2 || a.layout().is_contiguous()) {
        // The batch is more rows.
        let rows = a.elem_count() / a.dims()[a.rank() - 1].max(1);
        let a = if a.rank() == 2 { a.clone() } else { a.reshape((rows, a.dims()[a.rank() - 1]))? };
        let (a, b) = (dense_one_way(&a)?, dense_one_way(b)?);
        let out = out.slice_mut::<O>("matmul")?;
        gemm::gemm(&threads, matrix::<T>(&a)?, matrix::<T>(&b)?, beta, MatMut::new(out, rows, n));
        return Ok(());
    }
    let (a, b) = (batch_first(a)?, if b.rank() == 2 { b.clone() } else { batch_first(b)? });
    let all = out.slice_mut::<O>("matmul")?;
    for (i, out) in all.chunks_mut((m * n).max(1)).enumerate() {
        let one = |x: &RawTensor| -> Result<RawTensor> {
            if x.rank() == 2 {
                dense_one_way(x)
            } else {
                dense_one_way(&x.narrow(0, i, 1)?.squeeze(0)?)
            }
        };
        let (a, b) = (one(&a)?, one(&b)?);
        gemm::gemm(&threads, matrix::<T>(&a)?, matrix::<T>(&b)?, beta, MatMut::new(out, m, n));
    }
    Ok(())
}

/// The tensor with all batch dimensions merged into one; copies only where strides do not allow it.
fn batch_first(x: &RawTensor) -> Result<RawTensor> {
    let (rank, dims) = (x.rank(), x.dims());
    if rank == 3 {
        return Ok(x.clone());
    }
    let batch: usize = dims[..rank - 2].iter().product();
    contiguous(x)?.reshape((batch, dims[rank - 2], dims[rank - 1]))
}

/// A matrix whose rows or columns are dense, which is what the kernel reads in place.
fn dense_one_way(x: &RawTensor) -> Result<RawTensor> {
    let strides = x.layout().strides();
    if strides.contains(&1) || x.elem_count() <= 1 { Ok(x.clone()) } else { contiguous(x) }
}

fn matrix<T: gemm::Input + Element>(x: &RawTensor) -> Result<MatRef<'_, T>> {
    let (dims, strides) = (x.dims(), x.layout().strides());
    Ok(MatRef::new(x.span::<T>("matmul")?, dims[0], dims[1], strides[0], strides[1]))
}
