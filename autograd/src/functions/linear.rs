//! Matrix products. Gradients of weights go straight into their f32 accumulators.

use slimpipe_ops::matmul::{matmul, matmul_into};
use slimpipe_ops::reduce::sum_to;
use slimpipe_runtime::RawTensor;

use crate::engine::Backward;
use crate::node::Function;
use crate::saved::Saved;
use crate::{Result, Tensor};

/// y = x W^T: dx = dy W, dW = dy^T x.
struct Linear {
    x: Saved,
    weight: RawTensor,
}

fn as_rows(x: &RawTensor) -> Result<RawTensor> {
    let width = x.dims()[x.rank() - 1];
    Ok(slimpipe_ops::copy::contiguous(x)?.reshape((x.elem_count() / width.max(1), width))?)
}

impl Function for Linear {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        if cx.needs(1) {
            let x = self.x.value()?;
            let (dy, x) = (as_rows(&grad)?, as_rows(&x)?);
            let dy_t = dy.transpose(0, 1)?;
            let into = |dw: &mut RawTensor, overwrite| Ok(matmul_into(&dy_t, &x, dw, overwrite)?);
            if !cx.accumulate(1, into)? {
                cx.add_product(1, &dy_t, &x)?;
            }
        }
        drop(self.x);
        cx.add_product(0, &grad, &self.weight)
    }
}

struct Matmul {
    a: Saved,
    b: Saved,
}

impl Function for Matmul {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let b = self.b.value()?;
        if cx.needs(1) {
            let a = self.a.value()?;
            if b.rank() == 2 {
                cx.add_product(1, &as_rows(&a)?.transpose(0, 1)?, &as_rows(&grad)?)?;
            } else {
                cx.add(1, sum_to(&matmul(&transposed(&a)?, &grad)?, *b.shape())?)?;
            }
        }
        drop(self.a);
        if cx.needs(0) {
            cx.add_product(0, &grad, &transposed(&b)?)?;
        }
        Ok(())
    }
}

fn transposed(x: &RawTensor) -> Result<RawTensor> {
    Ok(x.transpose(x.rank() - 2, x.rank() - 1)?)
}

impl Tensor {
    /// `self` [..., in] times the transpose of `weight` [out, in]: [..., out].
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit, out of memory.
    #[track_caller]
    pub fn linear(&self, weight: &Self) -> Result<Self> {
        let raw = matmul(self.raw(), &transposed(weight.raw())?)?;
        let function = || Linear { x: self.save(), weight: weight.raw().clone() };
        Ok(Self::from_op("linear", raw, &[self, weight], function))
    }

    /// The matrix product of `self` [..., m, k] with `other` [k, n] or [..., k, n].
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit, out of memory.
    #[track_caller]
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        let raw = matmul(self.raw(), other.raw())?;
        Ok(Self::from_op("matmul", raw, &[self, other], || Matmul {
            a: self.save(),
            b: other.save(),
        }))
    }
}
