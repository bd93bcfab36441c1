//! Functions of one element.

use slimpipe_ops::unary::{Unary, unary, unary_backward};
use slimpipe_runtime::RawTensor;

use crate::engine::Backward;
use crate::node::Function;
use crate::saved::Saved;
use crate::{Result, Tensor};

struct Apply {
    f: Unary,
    x: Saved,
}

impl Function for Apply {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let dx = unary_backward(self.f, &self.x.value()?, &grad)?;
        drop((self, grad));
        cx.add(0, dx)
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $f:ident;)*) => {
        impl Tensor {
            $($(#[$doc])*
            ///
            /// # Errors
            /// Not a float tensor, out of memory.
            #[track_caller]
            pub fn $name(&self) -> Result<Self> {
                self.unary(Unary::$f)
            })*
        }
    };
}

methods! {
    /// e to the power of each element.
    exp => Exp;
    /// The natural logarithm of each element.
    log => Log;
    /// The square root of each element.
    sqrt => Sqrt;
    /// One over the square root of each element.
    rsqrt => Rsqrt;
    /// The hyperbolic tangent of each element.
    tanh => Tanh;
    /// 1 / (1 + exp(-x)) of each element.
    sigmoid => Sigmoid;
    /// x sigmoid(x) of each element.
    silu => Silu;
    /// x Phi(x) of each element, with the exact normal distribution function.
    gelu => Gelu;
    /// max(x, 0) of each element.
    relu => Relu;
}

impl Tensor {
    /// `f` of each element.
    ///
    /// # Errors
    /// Not a float tensor, out of memory.
    #[track_caller]
    pub fn unary(&self, f: Unary) -> Result<Self> {
        let raw = unary(f, self.raw())?;
        Ok(Self::from_op(f.name(), raw, &[self], || Apply { f, x: self.save() }))
    }
}
