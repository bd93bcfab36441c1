//! Conversion between dtypes: floats round to nearest even, integers truncate and saturate. Backward
//! converts the gradient back.

use slimpipe_kernels::cpu::convert as kernel;
use slimpipe_kernels::cuda::convert::{self as gpu_kernel, Number};
use slimpipe_runtime::{DType, RawTensor, Result, team};

use crate::copy::{contiguous, copy_into};
use crate::dispatch::{mismatch, with_any};
use crate::gpu::Place;

const OP: &str = "cast";

/// `x` as `dtype`; the same handle if it has that dtype already.
///
/// # Errors
/// Out of memory.
#[track_caller]
pub fn cast(x: &RawTensor, dtype: DType) -> Result<RawTensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    let mut out = RawTensor::empty(*x.shape(), dtype, x.device(), OP)?;
    cast_into(x, &mut out)?;
    Ok(out)
}

/// Converts `x` into the unshared contiguous tensor `out` of the same number of elements.
///
/// # Errors
/// Another number of elements, `out` cannot be written, out of memory.
#[track_caller]
pub fn cast_into(x: &RawTensor, out: &mut RawTensor) -> Result<()> {
    if x.dtype() == out.dtype() {
        return copy_into(x, out);
    }
    if x.elem_count() != out.elem_count() {
        let what = format!("shape {} does not fill shape {}", x.shape(), out.shape());
        return Err(mismatch(OP, what));
    }
    let x = contiguous(x)?;
    match Place::of(OP, x.device().join(out.device()))? {
        Place::Meta => return Ok(()),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let (from, to) = (number(x.dtype()), number(out.dtype()));
            let (source, target) = ((from, gpu.read(&x)?), (to, gpu.write(out)?));
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::cast(gpu.stream(), source, x.elem_count(), target)? };
            return Ok(());
        }
    }
    let team = team::current();
    match (x.dtype(), out.dtype()) {
        (DType::F32, DType::BF16) => kernel::f32_to_bf16(&team, x.slice(OP)?, out.slice_mut(OP)?),
        (DType::BF16, DType::F32) => kernel::bf16_to_f32(&team, x.slice(OP)?, out.slice_mut(OP)?),
        (from, to) => {
            return with_any!(from, S => with_any!(to, D => {
                kernel::cast(&team, x.slice::<S>(OP)?, out.slice_mut::<D>(OP)?);
                Ok(())
            }));
        }
    }
    Ok(())
}

fn number(dtype: DType) -> Number {
    match dtype {
        DType::F32 => Number::F32,
        DType::BF16 => Number::Bf16,
        DType::F16 => Number::F16,
        DType::I32 => Number::I32,
        DType::U32 => Number::U32,
        DType::I64 => Number::I64,
        DType::U8 => Number::U8,
    }
}
