//! From a run-time dtype to a compile-time type, and shape errors in one line.

use slimpipe_runtime::{DType, Error, RawTensor, Result};

/// Runs `$body` with `$T` bound to the Rust type of a computable float dtype (f32 or bf16).
macro_rules! with_float {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            slimpipe_runtime::DType::F32 => {
                type $T = f32;
                $body
            }
            slimpipe_runtime::DType::BF16 => {
                type $T = half::bf16;
                $body
            }
            got => Err($crate::dispatch::not_float($op, got)),
        }
    };
}
pub(crate) use with_float;

/// Runs `$body` with `$T` bound to the Rust type of any dtype.
macro_rules! with_any {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            slimpipe_runtime::DType::F32 => {
                type $T = f32;
                $body
            }
            slimpipe_runtime::DType::BF16 => {
                type $T = half::bf16;
                $body
            }
            slimpipe_runtime::DType::F16 => {
                type $T = half::f16;
                $body
            }
            slimpipe_runtime::DType::I32 => {
                type $T = i32;
                $body
            }
            slimpipe_runtime::DType::U32 => {
                type $T = u32;
                $body
            }
            slimpipe_runtime::DType::I64 => {
                type $T = i64;
                $body
            }
            slimpipe_runtime::DType::U8 => {
                type $T = u8;
                $body
            }
        }
    };
}
pub(crate) use with_any;

pub(crate) fn mismatch(op: &'static str, what: String) -> Error {
    Error::ShapeMismatch { op, what }
}

pub(crate) fn not_float(op: &'static str, got: DType) -> Error {
    Error::WrongDType { op, expected: "f32 or bf16", got }
}

/// The dtype of a tensor that can be computed with, checked before anything is allocated.
pub(crate) fn float(op: &'static str, x: &RawTensor) -> Result<DType> {
    match x.dtype() {
        dtype @ (DType::F32 | DType::BF16) => Ok(dtype),
        got => Err(not_float(op, got)),
    }
}

/// The dtype that two tensors share and that can be computed with.
pub(crate) fn same_float(op: &'static str, a: &RawTensor, b: &RawTensor) -> Result<DType> {
    same_dtype(op, a, b)?;
    float(op, a)
}

pub(crate) fn same_dtype(op: &'static str, a: &RawTensor, b: &RawTensor) -> Result<DType> {
    if a.dtype() == b.dtype() {
        return Ok(a.dtype());
    }
    Err(Error::MixedDTypes { op, left: a.dtype(), right: b.dtype() })
}

pub(crate) fn same_shape(op: &'static str, a: &RawTensor, b: &RawTensor) -> Result<()> {
    if a.shape() == b.shape() {
        return Ok(());
    }
    Err(mismatch(op, format!("shapes {} and {} differ", a.shape(), b.shape())))
}

/// The extent of the last dimension.
pub(crate) fn width(op: &'static str, x: &RawTensor) -> Result<usize> {
    x.dims()
        .last()
        .copied()
        .ok_or_else(|| mismatch(op, "a scalar has no last dimension".to_owned()))
}
