//! Binary arithmetic with broadcasting: `c = a (op) b`.
//!
//! Backward of `a (op) b` with output gradient g, each reduced to its operand's shape by
//! [`reduce::sum_to`](crate::reduce::sum_to):
//! add: g, g; subtract: g, -g; multiply: g b, g a; divide: g / b, -g a / b^2.

use slimpipe_kernels::cpu::simd::Scalar;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_runtime::{DType, Element, Error, RawTensor, Result, team};

use crate::copy::contiguous;
use crate::dispatch::{same_dtype, same_shape, with_float};

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

/// Elements that one task handles: enough to be worth a thread.
const BLOCK: usize = 1 << 14;

/// `a (op) b`, broadcast to their common shape.
///
/// # Errors
/// Shapes that do not broadcast, dtypes that differ or are not floats, out of memory.
#[track_caller]
pub fn binary(op: Binary, a: &RawTensor, b: &RawTensor) -> Result<RawTensor> {
    let name = op.name();
    let dtype = same_dtype(name, a, b)?;
    let shape = a.shape().broadcast(b.shape()).ok_or(Error::CannotBroadcast {
        op: name,
        left: *a.shape(),
        right: *b.shape(),
    })?;
    let mut out = RawTensor::empty(shape, dtype, a.device().join(b.device()), name)?;
    if out.is_meta() {
        return Ok(out);
    }
    let (a, b) = (a.broadcast_to(shape)?, b.broadcast_to(shape)?);
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
    let (dense_a, dense_b) = (a.layout().is_contiguous(), b.layout().is_contiguous());
    let (x, y) = (a.span::<T>(name)?, b.span::<T>(name)?);
    let out = out.slice_mut::<T>(name)?;
    if dense_a && dense_b {
        for_blocks(&team::current(), out, |start, out| {
            let (x, y) = (&x[start..start + out.len()], &y[start..start + out.len()]);
            for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
                *out = T::from_f32(f(x.to_f32(), y.to_f32()));
            }
        });
        return Ok(());
    }
    let (start_a, start_b) = (a.layout().start(), b.layout().start());
    let indices = a.layout().indices().zip(b.layout().indices());
    for (out, (i, j)) in out.iter_mut().zip(indices) {
        *out = T::from_f32(f(x[i - start_a].to_f32(), y[j - start_b].to_f32()));
    }
    Ok(())
}

/// Runs `f(start, block)` on fixed blocks of `out`, shared by the team.
fn for_blocks<T: Send>(team: &Threads, out: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    team.chunks(out, BLOCK, |i, block| f(i * BLOCK, block));
}

/// `x * factor`.
///
/// # Errors
/// Not a float tensor, out of memory.
#[track_caller]
pub fn scale(x: &RawTensor, factor: f32) -> Result<RawTensor> {
    map("scale", x, move |value| value * factor)
}

/// `x + term`.
///
/// # Errors
/// Not a float tensor, out of memory.
#[track_caller]
pub fn shift(x: &RawTensor, term: f32) -> Result<RawTensor> {
    map("shift", x, move |value| value + term)
}

#[track_caller]
fn map(name: &'static str, x: &RawTensor, f: impl Fn(f32) -> f32 + Sync) -> Result<RawTensor> {
    let x = contiguous(x)?;
    let mut out = RawTensor::empty(*x.shape(), x.dtype(), x.device(), name)?;
    if x.is_meta() {
        return Ok(out);
    }
    with_float!(name, x.dtype(), T => {
        let from = x.slice::<T>(name)?;
        for_blocks(&team::current(), out.slice_mut::<T>(name)?, |start, out| {
            for (out, x) in out.iter_mut().zip(&from[start..]) {
                *out = T::from_f32(f(x.to_f32()));
            }
        });
        Ok(())
    })?;
    Ok(out)
}

/// Sets every element of an unshared float tensor.
///
/// # Errors
/// Not a float tensor, or it is shared.
pub fn fill(x: &mut RawTensor, value: f32) -> Result<()> {
    if x.is_meta() {
        return Ok(());
    }
    with_float!("fill", x.dtype(), T => {
        x.slice_mut::<T>("fill")?.fill(T::from_f32(value));
        Ok(())
    })
}

/// `a + b` of equal shapes, written over whichever of the two nobody else holds.
///
/// # Errors
/// Shapes or dtypes that differ, out of memory.
#[track_caller]
pub fn add_reusing(mut a: RawTensor, mut b: RawTensor) -> Result<RawTensor> {
    same_shape("add", &a, &b)?;
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

/// `a += b`, equal shapes and dtypes; `a` is unshared.
///
/// # Errors
/// Shapes or dtypes that differ, or `a` is shared.
pub fn add_assign(a: &mut RawTensor, b: &RawTensor) -> Result<()> {
    same_shape("add", a, b)?;
    let dtype = same_dtype("add", a, b)?;
    if a.is_meta() || b.is_meta() {
        return Ok(());
    }
    let b = contiguous(b)?;
    with_float!("add", dtype, T => {
        let from = b.slice::<T>("add")?;
        for_blocks(&team::current(), a.slice_mut::<T>("add")?, |start, out| {
            for (out, x) in out.iter_mut().zip(&from[start..]) {
                *out = T::from_f32(out.to_f32() + x.to_f32());
            }
        });
        Ok(())
    })
}

/// Adds `x` of any float dtype to the unshared f32 tensor `sum` of the same shape.
///
/// # Errors
/// Shapes that differ, `sum` not f32 or shared.
pub fn accumulate(sum: &mut RawTensor, x: &RawTensor) -> Result<()> {
    same_shape("accumulate", sum, x)?;
    if x.is_meta() || sum.is_meta() {
        return Ok(());
    }
    if sum.dtype() != DType::F32 {
        return Err(Error::WrongDType { op: "accumulate", expected: "f32", got: sum.dtype() });
    }
    let x = contiguous(x)?;
    with_float!("accumulate", x.dtype(), T => {
        let from = x.slice::<T>("accumulate")?;
        for_blocks(&team::current(), sum.slice_mut::<f32>("accumulate")?, |start, out| {
            for (out, x) in out.iter_mut().zip(&from[start..]) {
                *out += x.to_f32();
            }
        });
        Ok(())
    })
}
