//! Matrix products. Gradients of weights go straight into their f32 accumulators.

use slimpipe_ops::copy::reshape;
use slimpipe_ops::matmul::matmul;
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

impl Function for Linear {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let Self { x, weight } = *self;
        let dy = grad.clone();
        cx.weight_part(1, move |cx| {
            let x = x.value()?;
            cx.add_product(1, &as_rows(&dy)?.transpose(0, 1)?, &as_rows(&x)?)
        })?;
        cx.add_product(0, &grad, &weight)
    }
}

/// c = a b: da = dc b^T, db = a^T dc.
struct Matmul {
    a: Saved,
    b: Saved,
}

impl Function for Matmul {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let Self { a, b } = *self;
        let (b, dc) = (b.value()?, grad.clone());
        // A right operand that the batch shares collects the gradients of all its rows.
        let shared = b.rank() == 2;
        cx.weight_part(1, move |cx| {
            let a = a.value()?;
            let (a, dc) = if shared { (as_rows(&a)?, as_rows(&dc)?) } else { (a, dc) };
            cx.add_product(1, &transposed(&a)?, &dc)
        })?;
        if cx.needs(0) {
            cx.add_product(0, &grad, &transposed(&b)?)?;
        }
        Ok(())
    }
}

/// All dimensions but the last as one.
fn as_rows(x: &RawTensor) -> Result<RawTensor> {
    let (&width, rows) = x.dims().split_last().unwrap_or((&1, &[]));
    Ok(reshape(x, (rows.iter().product(), width))?)
}

fn transposed(x: &RawTensor) -> Result<RawTensor> {
    Ok(x.transpose(x.rank() - 2, x.rank() - 1)?)
}

impl Tensor {
    /// `self` [..., in] times the transpose of `weight` [out, in]: [..., out], y = x W^T. Add a bias
    /// with [`Tensor::add`].
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit, out of memory.
    #[track_caller]
    pub fn linear(&self, weight: &Self) -> Result<Self> {
        if weight.rank() != 2 || self.rank() < 2 || self.dims().last() != weight.dims().last() {
            let (x, weight) = (self.shape(), weight.shape());
            let what = format!("x {x} and weight {weight}, expected [..., in] and [out, in]");
            return Err(slimpipe_runtime::Error::ShapeMismatch { op: "linear", what }.into());
        }
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
