//! Binary arithmetic, scaling and casts. The formulas are in `slimpipe_ops::elementwise`.

use slimpipe_ops::cast::cast;
use slimpipe_ops::elementwise::{Binary, add_reusing, binary, scale, shift};
use slimpipe_ops::reduce::sum_to;
use slimpipe_runtime::{DType, RawTensor, Shape};

use crate::engine::Backward;
use crate::node::Function;
use crate::saved::Saved;
use crate::{Result, Tensor};

/// Addition and subtraction save shapes only.
struct AddLike {
    shapes: [Shape; 2],
    sign: f32,
}

impl Function for AddLike {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        if cx.needs(1) {
            let right = sum_to(&grad, self.shapes[1])?;
            cx.add(1, if self.sign < 0.0 { scale(&right, self.sign)? } else { right })?;
        }
        if cx.needs(0) {
            let left = sum_to(&grad, self.shapes[0])?;
            drop(grad);
            cx.add(0, left)?;
        }
        Ok(())
    }
}

struct MulLike {
    op: Binary,
    a: Saved,
    b: Saved,
}

impl Function for MulLike {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let (a, b) = (self.a.value()?, self.b.value()?);
        if cx.needs(1) {
            let db = match self.op {
                Binary::Divide => {
                    let over_b = binary(Binary::Divide, &binary(Binary::Multiply, &grad, &a)?, &b)?;
                    scale(&binary(Binary::Divide, &over_b, &b)?, -1.0)?
                }
                _ => binary(Binary::Multiply, &grad, &a)?,
            };
            cx.add(1, sum_to(&db, *b.shape())?)?;
        }
        if cx.needs(0) {
            let da = binary(self.op, &grad, &b)?; // g b, or g / b
            cx.add(0, sum_to(&da, *a.shape())?)?;
        }
        Ok(())
    }
}

struct Scale(f32);

impl Function for Scale {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, scale(&grad, self.0)?)
    }
}

struct Shift;

impl Function for Shift {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, grad)
    }
}

struct Cast(DType);

impl Function for Cast {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        cx.add(0, cast(&grad, self.0)?)
    }
}

impl Tensor {
    /// `self + other`, broadcast.
    ///
    /// # Errors
    /// Shapes that do not broadcast, dtypes that differ, out of memory.
    #[track_caller]
    pub fn add(&self, other: &Self) -> Result<Self> {
        self.add_like(Binary::Add, 1.0, other)
    }

    /// `self + other` of equal shapes, written over `self` if nobody else holds it: a residual
    /// connection without another buffer.
    ///
    /// # Errors
    /// Shapes or dtypes that differ, out of memory.
    #[track_caller]
    pub fn add_into(self, other: &Self) -> Result<Self> {
        let shapes = [*self.shape(), *other.shape()];
        let (left, edge) = self.into_parts();
        let edges = vec![edge, other.node().cloned()];
        let raw = add_reusing(left, other.raw().clone())?;
        Ok(Self::from_edges("add", raw, edges, || AddLike { shapes, sign: 1.0 }))
    }

    /// `self - other`, broadcast.
    ///
    /// # Errors
    /// As [`Tensor::add`].
    #[track_caller]
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.add_like(Binary::Subtract, -1.0, other)
    }

    #[track_caller]
    fn add_like(&self, op: Binary, sign: f32, other: &Self) -> Result<Self> {
        let raw = binary(op, self.raw(), other.raw())?;
        let shapes = [*self.shape(), *other.shape()];
        Ok(Self::from_op(op.name(), raw, &[self, other], || AddLike { shapes, sign }))
    }

    /// `self * other`, broadcast.
    ///
    /// # Errors
    /// As [`Tensor::add`].
    #[track_caller]
    pub fn mul(&self, other: &Self) -> Result<Self> {
        self.mul_like(Binary::Multiply, other)
    }

    /// `self / other`, broadcast.
    ///
    /// # Errors
    /// As [`Tensor::add`].
    #[track_caller]
    pub fn div(&self, other: &Self) -> Result<Self> {
        self.mul_like(Binary::Divide, other)
    }

    #[track_caller]
    fn mul_like(&self, op: Binary, other: &Self) -> Result<Self> {
        let raw = binary(op, self.raw(), other.raw())?;
        Ok(Self::from_op(op.name(), raw, &[self, other], || MulLike {
            op,
            a: self.save(),
            b: other.save(),
        }))
    }

    /// `self * factor`.
    ///
    /// # Errors
    /// Not a float tensor, out of memory.
    #[track_caller]
    pub fn scale(&self, factor: f32) -> Result<Self> {
        Ok(Self::from_op("scale", scale(self.raw(), factor)?, &[self], || Scale(factor)))
    }

    /// `self + term`.
    ///
    /// # Errors
    /// Not a float tensor, out of memory.
    #[track_caller]
    pub fn add_scalar(&self, term: f32) -> Result<Self> {
        Ok(Self::from_op("shift", shift(self.raw(), term)?, &[self], || Shift))
    }

    /// The values as another dtype; gradients come back in the original one.
    ///
    /// # Errors
    /// Out of memory.
    #[track_caller]
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let raw = cast(self.raw(), dtype)?;
        if !dtype.is_float() {
            return Ok(raw.into());
        }
        let from = self.dtype();
        Ok(Self::from_op("cast", raw, &[self], || Cast(from)))
    }
}
