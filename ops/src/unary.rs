//! Functions of one element. The formulas and derivatives are those of
//! [`slimpipe_kernels::cpu::unary::Unary`]: dx = dy f'(x).

use slimpipe_kernels::cpu::unary as kernel;
pub use slimpipe_kernels::cpu::unary::Unary;
use slimpipe_kernels::cuda::unary as gpu_kernel;
use slimpipe_runtime::{RawTensor, Result, team};

use crate::copy::contiguous;
use crate::dispatch::{float, same_float, same_shape, with_float};
use crate::gpu::Place;

/// `f(x)`, elementwise.
///
/// # Errors
/// Not a float tensor, out of memory.
#[track_caller]
pub fn unary(f: Unary, x: &RawTensor) -> Result<RawTensor> {
    float(f.name(), x)?;
    let x = contiguous(x)?;
    let mut out = RawTensor::empty(*x.shape(), x.dtype(), x.device(), f.name())?;
    match Place::of(f.name(), out.device())? {
        Place::Meta => {}
        Place::Cpu => with_float!(f.name(), x.dtype(), T => {
            kernel::forward(&team::current(), f, x.slice::<T>(f.name())?, out.slice_mut::<T>(f.name())?);
            Ok(())
        })?,
        Place::Gpu(gpu) => {
            let (dtype, len, y) = (gpu.float(x.dtype())?, x.elem_count(), gpu.write(&mut out)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::forward(gpu.stream(), dtype, f, gpu.read(&x)?, len, y)? };
        }
    }
    Ok(out)
}

/// The gradient of the input `x`.
///
/// # Errors
/// Shapes or dtypes that differ, out of memory.
#[track_caller]
pub fn unary_backward(f: Unary, x: &RawTensor, dy: &RawTensor) -> Result<RawTensor> {
    same_shape(f.name(), x, dy)?;
    same_float(f.name(), x, dy)?;
    let (x, dy) = (contiguous(x)?, contiguous(dy)?);
    let mut dx = RawTensor::empty(*x.shape(), x.dtype(), x.device(), f.name())?;
    match Place::of(f.name(), dx.device())? {
        Place::Meta => {}
        Place::Cpu => with_float!(f.name(), x.dtype(), T => {
            let (x, dy) = (x.slice::<T>(f.name())?, dy.slice::<T>(f.name())?);
            kernel::backward(&team::current(), f, x, dy, dx.slice_mut::<T>(f.name())?);
            Ok(())
        })?,
        Place::Gpu(gpu) => {
            let (dtype, len, dx) = (gpu.float(x.dtype())?, x.elem_count(), gpu.write(&mut dx)?);
            let (x, dy) = (gpu.read(&x)?, gpu.read(&dy)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::backward(gpu.stream(), dtype, f, x, dy, len, dx)? };
        }
    }
    Ok(dx)
}
