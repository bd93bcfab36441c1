//! LayerNorm. Its output is cheap to make again, so whoever saves it saves a recipe.

use slimpipe_ops::layer_norm::{layer_norm, layer_norm_apply, layer_norm_backward};
use slimpipe_runtime::{DType, RawTensor};

use crate::engine::Backward;
use crate::node::Function;
use crate::saved::{Recipe, Saved};
use crate::{Result, Tensor};

struct LayerNorm {
    x: Saved,
    weight: RawTensor,
    stats: RawTensor,
}

impl Function for LayerNorm {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let x = self.x.value()?;
        let Self { weight, stats, .. } = *self;
        let (shape, dtype) = (*weight.shape(), weight.dtype());
        let mut dparams = None;
        if cx.needs(1) || cx.needs(2) {
            // Two rows are cheaper than two accumulators locked at once.
            let zeros = || RawTensor::zeros(shape, DType::F32, x.device());
            dparams = Some([zeros()?, zeros()?]);
        }
        let dx = {
            let dparams = dparams.as_mut().map(|params| params.each_mut());
            layer_norm_backward(&x, &weight, &stats, &grad, dparams)?
        };
        drop((x, stats, grad));
        for (index, dparam) in dparams.into_iter().flatten().enumerate() {
            cx.add_f32(index + 1, dparam, dtype)?;
        }
        cx.add(0, dx)
    }
}

impl Tensor {
    /// LayerNorm of the rows of the last dimension: y = (x - mean) w / sqrt(var + eps) + b, for
    /// `weight` and `bias` `[width]`.
    ///
    /// # Errors
    /// A weight or bias of another width or dtype, out of memory.
    #[track_caller]
    pub fn layer_norm(&self, weight: &Self, bias: &Self, eps: f32) -> Result<Self> {
        let (raw, stats) = layer_norm(self.raw(), weight.raw(), bias.raw(), eps)?;
        let function =
            || LayerNorm { x: self.save(), weight: weight.raw().clone(), stats: stats.clone() };
        let y = Self::from_op("layer_norm", raw, &[self, weight, bias], function);
        Ok(y.with_recipe(|| {
            let (x, stats) = (self.save(), stats.clone());
            let (weight, bias) = (weight.raw().clone(), bias.raw().clone());
            Recipe::new(move || Ok(layer_norm_apply(&x.value()?, &weight, &bias, &stats)?))
        }))
    }
}
