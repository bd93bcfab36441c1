//! Conversion between dtypes, rounding to nearest even. Backward converts the gradient back.

use slimpipe_kernels::cpu::convert as kernel;
use slimpipe_runtime::{DType, Element, RawTensor, Result, team};

use crate::copy::contiguous;

/// `x` as `dtype`; the same handle if it has that dtype already.
///
/// # Errors
/// Out of memory.
#[track_caller]
pub fn cast(x: &RawTensor, dtype: DType) -> Result<RawTensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    let mut out = RawTensor::empty(*x.shape(), dtype, x.device(), "cast")?;
    cast_into(x, &mut out)?;
    Ok(out)
}

/// Converts `x` into the unshared contiguous tensor `out` of the same number of elements.
///
/// # Errors
/// `out` cannot be written.
pub fn cast_into(x: &RawTensor, out: &mut RawTensor) -> Result<()> {
    if x.dtype() == out.dtype() {
        return crate::copy::copy_into(x, out);
    }
    if x.is_meta() || out.is_meta() {
        return Ok(());
    }
    let x = contiguous(x)?;
    match x.dtype() {
        DType::F32 => from::<f32>(&x, out),
        DType::BF16 => from::<half::bf16>(&x, out),
        DType::F16 => from::<half::f16>(&x, out),
        DType::I32 => from::<i32>(&x, out),
        DType::U32 => from::<u32>(&x, out),
        DType::I64 => from::<i64>(&x, out),
        DType::U8 => from::<u8>(&x, out),
    }
}

fn from<S: Element + kernel::Convert>(x: &RawTensor, out: &mut RawTensor) -> Result<()> {
    let source = x.slice::<S>("cast")?;
    match out.dtype() {
        DType::F32 => to::<S, f32>(source, out),
        DType::BF16 => to::<S, half::bf16>(source, out),
        DType::F16 => to::<S, half::f16>(source, out),
        DType::I32 => to::<S, i32>(source, out),
        DType::U32 => to::<S, u32>(source, out),
        DType::I64 => to::<S, i64>(source, out),
        DType::U8 => to::<S, u8>(source, out),
    }
}

fn to<S: kernel::Convert, D: Element + kernel::Convert>(
    source: &[S],
    out: &mut RawTensor,
) -> Result<()> {
    kernel::cast(&team::current(), source, out.slice_mut::<D>("cast")?);
    Ok(())
}
