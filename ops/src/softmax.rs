//! Softmax over the last dimension: y_i = exp(x_i - max) / sum. Backward: dx = y (dy - sum(y dy)).

use slimpipe_kernels::cpu::softmax as kernel;
use slimpipe_kernels::cuda::softmax as gpu_kernel;
use slimpipe_runtime::{RawTensor, Result, team};

use crate::copy::contiguous;
use crate::dispatch::{float, same_float, same_shape, width, with_float};
use crate::gpu::Place;

/// Softmax of each row.
///
/// # Errors
/// A scalar, not a float tensor, out of memory.
#[track_caller]
pub fn softmax(x: &RawTensor) -> Result<RawTensor> {
    const OP: &str = "softmax";
    float(OP, x)?;
    let width = width(OP, x)?;
    let x = contiguous(x)?;
    let mut y = RawTensor::empty(*x.shape(), x.dtype(), x.device(), OP)?;
    match Place::of(OP, y.device())? {
        _ if width == 0 => {}
        Place::Meta => {}
        Place::Cpu => with_float!(OP, x.dtype(), T => {
            kernel::forward(&team::current(), x.slice::<T>(OP)?, width, y.slice_mut::<T>(OP)?);
            Ok(())
        })?,
        Place::Gpu(gpu) => {
            let (dtype, rows, y) =
                (gpu.float(x.dtype())?, x.elem_count() / width, gpu.write(&mut y)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::forward(gpu.stream(), dtype, gpu.read(&x)?, rows, width, y)? };
        }
    }
    Ok(y)
}

/// The gradient of the input, from the output `y`.
///
/// # Errors
/// Shapes or dtypes that differ, out of memory.
#[track_caller]
pub fn softmax_backward(y: &RawTensor, dy: &RawTensor) -> Result<RawTensor> {
    const OP: &str = "softmax_backward";
    same_shape(OP, y, dy)?;
    same_float(OP, y, dy)?;
    let width = width(OP, y)?;
    let (y, dy) = (contiguous(y)?, contiguous(dy)?);
    let mut dx = RawTensor::empty(*y.shape(), y.dtype(), y.device(), OP)?;
    match Place::of(OP, dx.device())? {
        _ if width == 0 => {}
        Place::Meta => {}
        Place::Cpu => with_float!(OP, y.dtype(), T => {
            let (y, dy) = (y.slice::<T>(OP)?, dy.slice::<T>(OP)?);
            kernel::backward(&team::current(), y, dy, width, dx.slice_mut::<T>(OP)?);
            Ok(())
        })?,
        Place::Gpu(gpu) => {
            let (dtype, rows, dx) =
                (gpu.float(y.dtype())?, y.elem_count() / width, gpu.write(&mut dx)?);
            let (y, dy) = (gpu.read(&y)?, gpu.read(&dy)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::backward(gpu.stream(), dtype, y, dy, rows, width, dx)? };
        }
    }
    Ok(dx)
}
