//! Binary arithmetic with broadcasting: `c = a (op) b`.
//!
//! Backward of `a (op) b` with output gradient g, each reduced to its operand's shape by
//! [`reduce::sum_to`](crate::reduce::sum_to):
//! add: g, g; subtract: g, -g; multiply: g b, g a; divide: g / b, -g a / b^2.

use slimpipe_kernels::cpu::simd::Scalar;
use slimpipe_kernels::cuda::elementwise::{self as gpu_kernel, Operation};
use slimpipe_kernels::cuda::{Float, copy};
use slimpipe_runtime::{DType, Element, Error, RawTensor, Result};

use crate::dispatch::{float, same_dtype, same_float, same_shape, with_float};
use crate::gpu::Place;
use crate::runs::{Runs, for_blocks};

/// An arithmetic operation on two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// a + b
    Add,
    /// a - b
    Subtract,
    /// a * b
    Multiply,
    /// a / b
    Divide,
}

impl Binary {
    /// The name in traces and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Multiply => "multiply",
            Self::Divide => "divide",
        }
    }
}

/// `a (op) b`, broadcast to their common shape.
///
/// # Errors
/// Shapes that do not broadcast, dtypes that differ or are not floats, out of memory.
#[track_caller]
pub fn binary(op: Binary, a: &RawTensor, b: &RawTensor) -> Result<RawTensor> {
    let name = op.name();
    let dtype = same_float(name, a, b)?;
    let shape = a.shape().broadcast(b.shape()).ok_or_else(|| Error::CannotBroadcast {
        op: name,
        left: (*a.shape()).into(),
        right: (*b.shape()).into(),
    })?;
    let mut out = RawTensor::empty(shape, dtype, a.device().join(b.device()), name)?;
    let place = Place::of(name, out.device())?;
    if let Place::Meta = place {
        return Ok(out);
    }
    let (a, b) = (a.broadcast_to(shape)?, b.broadcast_to(shape)?);
    if let Place::Gpu(gpu) = place {
        let operation = match op {
            Binary::Add => Operation::Add,
            Binary::Subtract => Operation::Subtract,
            Binary::Multiply => Operation::Multiply,
            Binary::Divide => Operation::Divide,
        };
        let (stream, dtype, c) = (gpu.stream(), gpu.float(dtype)?, gpu.write(&mut out)?);
        let (x, y) = (gpu.view(&a)?, gpu.view(&b)?);
        // SAFETY: tensors of that shape on the GPU.
        unsafe { gpu_kernel::binary(stream, dtype, operation, shape.dims(), x, y, c)? };
        return Ok(out);
    }
    with_float!(name, dtype, T => match op {
        Binary::Add => zip::<T>(name, &a, &b, &mut out, |x, y| x + y),
        Binary::Subtract => zip::<T>(name, &a, &b, &mut out, |x, y| x - y),
        Binary::Multiply => zip::<T>(name, &a, &b, &mut out, |x, y| x * y),
        Binary::Divide => zip::<T>(name, &a, &b, &mut out, |x, y| x / y),
    })?;
    Ok(out)
}

fn zip<T: Scalar + Element>(
    name: &'static str,
    a: &RawTensor,
    b: &RawTensor,
    out: &mut RawTensor,
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<()> {
    let runs = Runs::new([a.layout(), b.layout()]);
    let (x, y) = (a.span::<T>(name)?, b.span::<T>(name)?);
    let f = |x: T, y: T| T::from_f32(f(x.to_f32(), y.to_f32()));
    for_blocks(out.slice_mut::<T>(name)?, |start, out| {
        runs.for_each(start..start + out.len(), |at, len, [i, j]| {
            let (out, x, y) = (&mut out[at..at + len], &x[i..], &y[j..]);
            match runs.steps {
                [1, 1] => out.iter_mut().zip(x).zip(y).for_each(|((out, &x), &y)| *out = f(x, y)),
                [1, 0] => out.iter_mut().zip(x).for_each(|(out, &x)| *out = f(x, y[0])),
                [0, 1] => out.iter_mut().zip(y).for_each(|(out, &y)| *out = f(x[0], y)),
                [p, q] => {
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = f(x[k * p], y[k * q]);
                    }
                }
            }
        });
    });
    Ok(())
}

/// `x * factor`.
///
/// # Errors
/// Not a float tensor, out of memory.
#[track_caller]
pub fn scale(x: &RawTensor, factor: f32) -> Result<RawTensor> {
    // A product plus -0 is that product.
    affine("scale", x, factor, -0.0)
}

/// `x + term`.
///
/// # Errors
/// Not a float tensor, out of memory.
#[track_caller]
pub fn shift(x: &RawTensor, term: f32) -> Result<RawTensor> {
    affine("shift", x, 1.0, term)
}

/// `x * factor + term`.
#[track_caller]
fn affine(name: &'static str, x: &RawTensor, factor: f32, term: f32) -> Result<RawTensor> {
    float(name, x)?;
    let mut out = RawTensor::empty(*x.shape(), x.dtype(), x.device(), name)?;
    match Place::of(name, x.device())? {
        Place::Meta => {}
        Place::Cpu => with_float!(name, x.dtype(), T => {
            update(name, x, &mut out, |_: T, x: T| {
                <T as Scalar>::from_f32(x.to_f32() * factor + term)
            })
        })?,
        Place::Gpu(gpu) => {
            let (stream, dtype) = (gpu.stream(), gpu.float(x.dtype())?);
            let (from, to) = (gpu.view(x)?, gpu.write(&mut out)?);
            // SAFETY: tensors of that shape on the GPU.
            unsafe { gpu_kernel::affine(stream, dtype, x.dims(), from, factor, term, to)? };
        }
    }
    Ok(out)
}

/// `out = f(out, x)`, elementwise on one shape; `out` is contiguous and unshared.
fn update<T: Element, S: Element>(
    name: &'static str,
    x: &RawTensor,
    out: &mut RawTensor,
    f: impl Fn(T, S) -> T + Sync,
) -> Result<()> {
    let runs = Runs::new([x.layout()]);
    let from = x.span::<S>(name)?;
    for_blocks(out.slice_mut::<T>(name)?, |start, out| {
        runs.for_each(start..start + out.len(), |at, len, [i]| {
            let (out, from) = (&mut out[at..at + len], &from[i..]);
            match runs.steps {
                [1] => out.iter_mut().zip(from).for_each(|(out, &x)| *out = f(*out, x)),
                [step] => {
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = f(*out, from[k * step]);
                    }
                }
            }
        });
    });
    Ok(())
}

/// Sets every element of an unshared float tensor.
///
/// # Errors
/// Not a float tensor, or it is shared.
pub fn fill(x: &mut RawTensor, value: f32) -> Result<()> {
    float("fill", x)?;
    match Place::of("fill", x.device())? {
        Place::Meta => Ok(()),
        Place::Cpu => with_float!("fill", x.dtype(), T => {
            x.slice_mut::<T>("fill")?.fill(<T as Scalar>::from_f32(value));
            Ok(())
        }),
        Place::Gpu(gpu) => {
            let (at, count) = (gpu.write(x)?, x.elem_count());
            let low = <half::bf16 as Scalar>::from_f32(value);
            // SAFETY: a tensor of that many elements on the GPU.
            unsafe {
                match gpu.float(x.dtype())? {
                    Float::F32 => copy::fill_u32(gpu.stream(), at, value.to_bits(), count)?,
                    Float::Bf16 => copy::fill_u16(gpu.stream(), at, low.to_bits(), count)?,
                }
            }
            Ok(())
        }
    }
}

/// `a + b` of equal shapes, written over whichever of the two nobody else holds.
///
/// # Errors
/// Shapes or dtypes that differ, out of memory.
#[track_caller]
pub fn add_reusing(mut a: RawTensor, mut b: RawTensor) -> Result<RawTensor> {
    same_shape("add", &a, &b)?;
    same_float("add", &a, &b)?;
    if a.layout().is_contiguous() && a.is_unique() {
        add_assign(&mut a, &b)?;
        return Ok(a);
    }
    if b.layout().is_contiguous() && b.is_unique() {
        add_assign(&mut b, &a)?;
        return Ok(b);
    }
    binary(Binary::Add, &a, &b)
}

/// `sum += x` on one shape. `sum` is contiguous and unshared; it has the dtype of `x`, or is f32.
///
/// # Errors
/// Shapes or dtypes that do not fit, or `sum` is shared.
pub fn add_assign(sum: &mut RawTensor, x: &RawTensor) -> Result<()> {
    const OP: &str = "add";
    same_shape(OP, sum, x)?;
    float(OP, x)?;
    if sum.dtype() != DType::F32 {
        same_dtype(OP, sum, x)?;
    }
    match Place::of(OP, x.device().join(sum.device()))? {
        Place::Meta => Ok(()),
        Place::Cpu => with_float!(OP, sum.dtype(), T => with_float!(OP, x.dtype(), S => {
            update(OP, x, sum, |sum: T, x: S| {
                <T as Scalar>::from_f32(sum.to_f32() + <S as Scalar>::to_f32(x))
            })
        })),
        Place::Gpu(gpu) => {
            let (stream, dtype, to) = (gpu.stream(), gpu.float(x.dtype())?, gpu.write(sum)?);
            let (from, sum) = (gpu.view(x)?, gpu.float(sum.dtype())?);
            // SAFETY: tensors of that shape on the GPU.
            unsafe { gpu_kernel::accumulate(stream, dtype, x.dims(), from, sum, to)? };
            Ok(())
        }
    }
}
