//! RMSNorm over the last dimension: y = x r w with r = 1 / sqrt(mean(x^2) + eps).
//!
//! Backward, with g = dy w: dx = r (g - x r^2 mean(g x)), dw = sum over rows of dy x r.

use slimpipe_kernels::cpu::norm as kernel;
use slimpipe_kernels::cuda::norm as gpu_kernel;
use slimpipe_runtime::{DType, RawTensor, Result, Shape, team};

use crate::copy::contiguous;
use crate::dispatch::{mismatch, same_dtype, same_float, same_shape, width, with_float};
use crate::gpu::Place;

/// The width of the rows of `x`, each of which `weight` scales.
pub(crate) fn check(op: &'static str, x: &RawTensor, weight: &RawTensor) -> Result<usize> {
    same_float(op, x, weight)?;
    let width = width(op, x)?;
    if weight.dims() != [width] || width == 0 {
        return Err(mismatch(
            op,
            format!("a weight of shape {} for rows of {width}", weight.shape()),
        ));
    }
    Ok(width)
}

fn rows(x: &RawTensor, width: usize) -> Shape {
    Shape::from(x.elem_count() / width)
}

/// RMSNorm: the normalised rows and the reciprocal root mean square of each (f32).
///
/// # Errors
/// A weight of another width or dtype, out of memory.
#[track_caller]
pub fn rms_norm(x: &RawTensor, weight: &RawTensor, eps: f32) -> Result<(RawTensor, RawTensor)> {
    const OP: &str = "rms_norm";
    let width = check(OP, x, weight)?;
    let x = contiguous(x)?;
    let device = x.device().join(weight.device());
    let mut y = RawTensor::empty(*x.shape(), x.dtype(), device, OP)?;
    let mut rstd = RawTensor::empty(rows(&x, width), DType::F32, device, OP)?;
    match Place::of(OP, device)? {
        Place::Meta => {}
        Place::Cpu => with_float!(OP, x.dtype(), T => {
            let (x, w) = (x.slice::<T>(OP)?, weight.slice::<T>(OP)?);
            kernel::rms_norm(&team::current(), x, w, eps, width, y.slice_mut::<T>(OP)?, rstd.slice_mut(OP)?);
            Ok(())
        })?,
        Place::Gpu(gpu) => {
            let (stream, dtype, count) = (gpu.stream(), gpu.float(x.dtype())?, rstd.elem_count());
            let (x, w) = (gpu.read(&x)?, gpu.read(weight)?);
            let (y, r) = (gpu.write(&mut y)?, gpu.write(&mut rstd)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::rms_norm(stream, dtype, x, w, eps, count, width, y, r)? };
        }
    }
    Ok((y, rstd))
}

/// The output of [`rms_norm`] again, bit for bit, from its saved `rstd`.
///
/// # Errors
/// As [`rms_norm`].
#[track_caller]
pub fn rms_norm_apply(x: &RawTensor, weight: &RawTensor, rstd: &RawTensor) -> Result<RawTensor> {
    const OP: &str = "rms_norm_again";
    let width = check(OP, x, weight)?;
    let x = contiguous(x)?;
    let mut y = RawTensor::empty(*x.shape(), x.dtype(), x.device().join(weight.device()), OP)?;
    match Place::of(OP, y.device())? {
        Place::Meta => {}
        Place::Cpu => with_float!(OP, x.dtype(), T => {
            let (x, w) = (x.slice::<T>(OP)?, weight.slice::<T>(OP)?);
            kernel::rms_norm_apply(&team::current(), x, w, rstd.slice(OP)?, width, y.slice_mut::<T>(OP)?);
            Ok(())
        })?,
        Place::Gpu(gpu) => {
            let (stream, dtype, count) =
                (gpu.stream(), gpu.float(x.dtype())?, x.elem_count() / width);
            let (x, w, r) = (gpu.read(&x)?, gpu.read(weight)?, gpu.read(rstd)?);
            let y = gpu.write(&mut y)?;
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::rms_norm_apply(stream, dtype, x, w, r, count, width, y)? };
        }
    }
    Ok(y)
}

/// Writes the gradient of the input to `dx` (unshared, shaped like `x`) and adds that of the weight
/// to `dweight` (f32) if given.
///
/// # Errors
/// As [`rms_norm`], or a destination is shared.
#[track_caller]
pub fn rms_norm_backward(
    x: &RawTensor,
    weight: &RawTensor,
    rstd: &RawTensor,
    dy: &RawTensor,
    dx: &mut RawTensor,
    dweight: Option<&mut RawTensor>,
) -> Result<()> {
    const OP: &str = "rms_norm_backward";
    let width = check(OP, x, weight)?;
    same_shape(OP, x, dy)?;
    same_dtype(OP, x, dy)?;
    let (x, dy) = (contiguous(x)?, contiguous(dy)?);
    match Place::of(OP, x.device().join(dy.device()))? {
        Place::Meta => Ok(()),
        Place::Cpu => {
            let dweight = dweight.map(|dweight| dweight.slice_mut::<f32>(OP)).transpose()?;
            with_float!(OP, x.dtype(), T => {
                let (x, w, dy) = (x.slice::<T>(OP)?, weight.slice::<T>(OP)?, dy.slice::<T>(OP)?);
                let (r, dx) = (rstd.slice(OP)?, dx.slice_mut::<T>(OP)?);
                kernel::rms_norm_backward(&team::current(), x, w, r, dy, width, dx, dweight);
                Ok(())
            })
        }
        Place::Gpu(gpu) => {
            let (stream, dtype, count) =
                (gpu.stream(), gpu.float(x.dtype())?, x.elem_count() / width);
            let (x, w, r, dy) = (gpu.read(&x)?, gpu.read(weight)?, gpu.read(rstd)?, gpu.read(&dy)?);
            let dw = dweight.map(|dweight| gpu.write(dweight)).transpose()?;
            let dx = gpu.write(dx)?;
            // SAFETY: tensors of that many elements on the GPU.
            unsafe {
                gpu_kernel::rms_norm_backward(stream, dtype, x, w, r, dy, count, width, dx, dw)?;
            }
            Ok(())
        }
    }
}
