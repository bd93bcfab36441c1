//! RMSNorm. Its output is cheap to make again, so whoever saves it saves a recipe.

use slimpipe_ops::copy::contiguous;
use slimpipe_ops::rms_norm::{rms_norm, rms_norm_apply, rms_norm_backward};
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
        // Writing into an accumulator must not allocate: what is strided is copied before.
        let (x, grad) = (contiguous(&self.x.value()?)?, contiguous(&grad)?);
        let Self { weight, rstd, .. } = *self;
        let mut dx = RawTensor::empty(*x.shape(), x.dtype(), x.device(), "rms_norm_backward")?;
        let mut run = |dweight: Option<&mut RawTensor>| {
            Ok(rms_norm_backward(&x, &weight, &rstd, &grad, &mut dx, dweight)?)
        };
        if !cx.needs(1) {
            run(None)?;
        } else if !cx.accumulate_only(1, |dweight| run(Some(dweight)))? {
            let mut dweight = RawTensor::zeros(*weight.shape(), DType::F32, x.device())?;
            run(Some(&mut dweight))?;
            cx.add_f32(1, dweight, weight.dtype())?;
        }
        drop((x, rstd, grad));
        cx.add(0, dx)
    }
}

impl Tensor {
    /// RMSNorm of the rows of the last dimension: y = x w / sqrt(mean(x^2) + eps), for `weight`
    /// `[width]`.
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
