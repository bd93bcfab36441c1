//! RMSNorm. Its output is cheap to make again, so whoever saves it saves a recipe.

use slimpipe_ops::norm::{rms_norm, rms_norm_apply, rms_norm_backward};
use slimpipe_runtime::{DType, RawTensor};

use crate::engine::Backward;
use crate::node::Function;
use crate::saved::{Recipe, Saved};
use crate::{Result, Tensor};

struct RmsNorm {
    x: Saved,
    weight: RawTensor,
    rstd: RawTensor,
}

impl Function for RmsNorm {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let x = self.x.value()?;
        let Self { weight, rstd, .. } = *self;
        let mut dx = RawTensor::empty(*x.shape(), x.dtype(), x.device(), "rms_norm_backward")?;
        let mut ran = false;
        let direct = cx.accumulate_only(1, |dweight| {
            ran = true;
            Ok(rms_norm_backward(&x, &weight, &rstd, &grad, &mut dx, Some(dweight))?)
        })?;
        if !direct && cx.needs(1) {
            let mut dweight = RawTensor::zeros(*weight.shape(), DType::F32, x.device())?;
            rms_norm_backward(&x, &weight, &rstd, &grad, &mut dx, Some(&mut dweight))?;
            cx.add(1, slimpipe_ops::cast::cast(&dweight, weight.dtype())?)?;
        } else if !ran {
            rms_norm_backward(&x, &weight, &rstd, &grad, &mut dx, None)?;
        }
        drop((x, rstd, grad));
        cx.add(0, dx)
    }
}

impl Tensor {
    /// Each row of the last dimension over its root mean square (plus `eps`), times `weight`.
    ///
    /// # Errors
    /// A weight of another width or dtype, out of memory.
    #[track_caller]
    pub fn rms_norm(&self, weight: &Self, eps: f32) -> Result<Self> {
        let (raw, rstd) = rms_norm(self.raw(), weight.raw(), eps)?;
        let function =
            || RmsNorm { x: self.save(), weight: weight.raw().clone(), rstd: rstd.clone() };
        Ok(Self::from_op("rms_norm", raw, &[self, weight], function).with_recipe(|| {
            let (x, weight, rstd) = (self.save(), weight.raw().clone(), rstd.clone());
            Recipe::new(move || Ok(rms_norm_apply(&x.value()?, &weight, &rstd)?))
        }))
    }
}
