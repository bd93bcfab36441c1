//! Embedding: row `ids[i]` of a table for each i. Backward adds row i of the gradient to row
//! `ids[i]` of the table's gradient.

use slimpipe_kernels::cpu::embedding as kernel;
use slimpipe_kernels::cuda::embedding as gpu_kernel;
use slimpipe_runtime::shape::MAX_RANK;
use slimpipe_runtime::{DType, Error, RawTensor, Result, Shape, team};

use crate::copy::contiguous;
use crate::dispatch::{float, mismatch, same_dtype, with_float};
use crate::gpu::Place;

const OP: &str = "embedding";

/// Rows of `table` [vocab, width] for `ids` (u32, any shape): [ids..., width]. On a GPU, where nobody waits to look at
/// ids, one outside the table gives NaN.
///
/// # Errors
/// Shapes or dtypes that do not fit, an id outside the table, out of memory.
#[track_caller]
pub fn embedding(table: &RawTensor, ids: &RawTensor) -> Result<RawTensor> {
    let shape = check(table, ids)?;
    let device = table.device().join(ids.device());
    let mut out = RawTensor::empty(shape, table.dtype(), device, OP)?;
    embedding_into(table, ids, &mut out)?;
    Ok(out)
}

/// The same rows, written to `out`, which is unshared and contiguous.
///
/// # Errors
/// As [`embedding`], or `out` has another shape or dtype than the rows.
#[track_caller]
pub fn embedding_into(table: &RawTensor, ids: &RawTensor, out: &mut RawTensor) -> Result<()> {
    let shape = check(table, ids)?;
    if *out.shape() != shape {
        return Err(mismatch(OP, format!("rows of shape {shape} go to {}", out.shape())));
    }
    same_dtype(OP, table, out)?;
    let (vocab, width) = (table.dims()[0], table.dims()[1]);
    let ids = contiguous(ids)?;
    match Place::of(OP, table.device().join(ids.device()).join(out.device()))? {
        Place::Meta => return Ok(()),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let (stream, dtype, rows) = (gpu.stream(), gpu.float(table.dtype())?, ids.elem_count());
            let (from, ids, to) = (gpu.read(table)?, gpu.read(&ids)?, gpu.write(out)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::gather(stream, dtype, from, vocab, width, ids, rows, to)? };
            return Ok(());
        }
    }
    let ids = ids.slice::<u32>(OP)?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
        let what = format!(
            "id {id} in a table of {vocab} rows: was the text made into tokens by another tokenizer?"
        );
        return Err(mismatch(OP, what));
    }
    with_float!(OP, table.dtype(), T => {
        kernel::gather(&team::current(), table.slice::<T>(OP)?, width, ids, out.slice_mut::<T>(OP)?);
        Ok(())
    })
}

/// The shape of the rows of `table` for `ids`.
fn check(table: &RawTensor, ids: &RawTensor) -> Result<Shape> {
    let &[_, width] = table.dims() else {
        let what = format!("the table has shape {}, expected [vocab, width]", table.shape());
        return Err(mismatch(OP, what));
    };
    float(OP, table)?;
    if ids.dtype() != DType::U32 {
        return Err(Error::WrongDType { op: OP, expected: "u32 for ids", got: ids.dtype() });
    }
    if ids.rank() == MAX_RANK {
        return Err(mismatch(OP, format!("ids of shape {} leave no dimension free", ids.shape())));
    }
    Ok(ids.shape().with(ids.rank(), width))
}

/// Adds the rows of `dy` [ids..., width] to rows `ids` of `dtable` (f32, [vocab, width], unshared).
///
/// # Errors
/// Shapes or dtypes that do not fit, `dtable` is shared, out of memory.
#[track_caller]
pub fn embedding_backward(dy: &RawTensor, ids: &RawTensor, dtable: &mut RawTensor) -> Result<()> {
    const OP: &str = "embedding_backward";
    let &[vocab, width] = dtable.dims() else {
        return Err(mismatch(OP, format!("a table of shape {}", dtable.shape())));
    };
    float(OP, dy)?;
    if dy.elem_count() != ids.elem_count() * width {
        let what = format!("a gradient {} for ids {} of width {width}", dy.shape(), ids.shape());
        return Err(mismatch(OP, what));
    }
    let (dy, ids) = (contiguous(dy)?, contiguous(ids)?);
    match Place::of(OP, dy.device().join(ids.device()).join(dtable.device()))? {
        Place::Meta => return Ok(()),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let (stream, dtype, rows) = (gpu.stream(), gpu.float(dy.dtype())?, ids.elem_count());
            let (dy, ids, to) = (gpu.read(&dy)?, gpu.read(&ids)?, gpu.write(dtable)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::scatter_add(stream, dtype, dy, ids, rows, width, vocab, to)? };
            return Ok(());
        }
    }
    with_float!(OP, dy.dtype(), T => {
        let (dy, ids) = (dy.slice::<T>(OP)?, ids.slice::<u32>(OP)?);
        kernel::scatter_add(&team::current(), dy, ids, width, dtable.slice_mut::<f32>(OP)?);
        Ok(())
    })
}
