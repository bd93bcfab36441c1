//! Moving elements into dense row-major order.

use slimpipe_runtime::{DType, Element, RawTensor, Result};

/// `x` itself if it is contiguous, else a contiguous copy.
///
/// # Errors
/// Out of memory.
#[track_caller]
pub fn contiguous(x: &RawTensor) -> Result<RawTensor> {
    if x.layout().is_contiguous() { Ok(x.clone()) } else { copy(x) }
}

/// A contiguous copy of any view.
///
/// # Errors
/// Out of memory.
#[track_caller]
pub fn copy(x: &RawTensor) -> Result<RawTensor> {
    let mut out = RawTensor::empty(*x.shape(), x.dtype(), x.device(), "copy")?;
    copy_into(x, &mut out)?;
    Ok(out)
}

/// Copies the elements of `x` in row-major order into the unshared contiguous tensor `out` of the
/// same number of elements and dtype.
///
/// # Errors
/// `out` cannot be written.
pub fn copy_into(x: &RawTensor, out: &mut RawTensor) -> Result<()> {
    crate::dispatch::same_dtype("copy", x, out)?;
    if x.is_meta() || out.is_meta() {
        return Ok(());
    }
    match x.dtype() {
        DType::F32 => typed::<f32>(x, out),
        DType::BF16 => typed::<half::bf16>(x, out),
        DType::F16 => typed::<half::f16>(x, out),
        DType::I32 => typed::<i32>(x, out),
        DType::U32 => typed::<u32>(x, out),
        DType::I64 => typed::<i64>(x, out),
        DType::U8 => typed::<u8>(x, out),
    }
}

fn typed<T: Element>(x: &RawTensor, out: &mut RawTensor) -> Result<()> {
    let from = x.span::<T>("copy")?;
    let to = out.slice_mut::<T>("copy")?;
    if x.layout().is_contiguous() {
        to.copy_from_slice(from);
        return Ok(());
    }
    let start = x.layout().start();
    for (to, index) in to.iter_mut().zip(x.layout().indices()) {
        *to = from[index - start];
    }
    Ok(())
}

/// Adds `grad` into elements `start..start + len` along `dim` of zeros shaped `shape`: the backward
/// of `narrow`.
///
/// # Errors
/// Out of memory.
pub fn narrow_backward(
    grad: &RawTensor,
    shape: slimpipe_runtime::Shape,
    dim: usize,
    start: usize,
) -> Result<RawTensor> {
    let mut out = RawTensor::zeros(shape, grad.dtype(), grad.device())?;
    if grad.is_meta() {
        return Ok(out);
    }
    let view = slimpipe_runtime::Layout::contiguous(shape).narrow(dim, start, grad.dims()[dim])?;
    crate::dispatch::with_float!("narrow", grad.dtype(), T => {
        let from = grad.to_vec::<T>()?;
        let to = out.slice_mut::<T>("narrow")?;
        for (value, index) in from.into_iter().zip(view.indices()) {
            to[index] = value;
        }
        Ok(())
    })?;
    Ok(out)
}
