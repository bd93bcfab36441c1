//! SwiGLU. Its output is cheap to make again, so whoever saves it saves a recipe.

use slimpipe_ops::swiglu::{swiglu, swiglu_backward};
use slimpipe_runtime::RawTensor;

use crate::engine::Backward;
use crate::node::Function;
use crate::saved::{Recipe, Saved};
use crate::{Result, Tensor};

struct SwiGlu {
    gate: Saved,
    up: Saved,
}

impl Function for SwiGlu {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let (dgate, dup) = swiglu_backward(&self.gate.value()?, &self.up.value()?, &grad)?;
        drop((self, grad));
        cx.add(1, dup)?;
        cx.add(0, dgate)
    }
}

impl Tensor {
    /// `silu(self) * up`, with `self` as the gate.
    ///
    /// # Errors
    /// Shapes or dtypes that differ, out of memory.
    #[track_caller]
    pub fn swiglu(&self, up: &Self) -> Result<Self> {
        let raw = swiglu(self.raw(), up.raw())?;
        let function = || SwiGlu { gate: self.save(), up: up.save() };
        Ok(Self::from_op("swiglu", raw, &[self, up], function).with_recipe(|| {
            let (gate, up) = (self.save(), up.save());
            Recipe::new(move || Ok(swiglu(&gate.value()?, &up.value()?)?))
        }))
    }
}
