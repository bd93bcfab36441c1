//! Operations from outside: one trait, no edit inside the engine.

use std::sync::Arc;

use slimpipe_ops::copy::contiguous;
use slimpipe_runtime::RawTensor;

use crate::engine::Backward;
use crate::node::Function;
use crate::saved::Saved;
use crate::{Error, Result, Tensor};

/// An operation defined outside the engine, used through [`Tensor::apply`].
///
/// ```
/// use slimpipe_autograd::{CustomOp, GradCheck, Result, Tensor};
/// use slimpipe_runtime::{Device, RawTensor};
///
/// /// y = x^3, dx = 3 x^2 dy.
/// struct Cube;
///
/// impl CustomOp for Cube {
///     fn name(&self) -> &'static str {
///         "cube"
///     }
///
///     fn forward(&self, inputs: &[RawTensor]) -> Result<RawTensor> {
///         let x = &inputs[0];
///         let mut y = RawTensor::empty(*x.shape(), x.dtype(), x.device(), "cube")?;
///         if !y.is_meta() {
///             let from = x.slice::<f32>("cube")?;
///             y.slice_mut("cube")?.iter_mut().zip(from).for_each(|(y, x)| *y = x.powi(3));
///         }
///         Ok(y)
///     }
///
///     fn backward(
///         &self,
///         inputs: &[RawTensor],
///         _output: &RawTensor,
///         grad: &RawTensor,
///     ) -> Result<Vec<Option<RawTensor>>> {
///         let square = Tensor::from(inputs[0].clone()).mul(&inputs[0].clone().into())?;
///         let dx = square.scale(3.0)?.mul(&grad.clone().into())?;
///         Ok(vec![Some(dx.raw().clone())])
///     }
/// }
///
/// let x = Tensor::new(&[0.5f32, -1.0, 2.0], 3, Device::Cpu)?;
/// assert_eq!(Tensor::apply(Cube, &[&x])?.to_vec::<f32>()?, [0.125, -1.0, 8.0]);
/// GradCheck::default().run(&[x], |x| Tensor::apply(Cube, &[&x[0]]))?;
/// # Ok::<(), slimpipe_autograd::Error>(())
/// ```
pub trait CustomOp: Send + Sync + 'static {
    /// The name in traces and errors.
    fn name(&self) -> &'static str;

    /// Computes the output. On the meta device it must allocate what the real run would, and stop
    /// there: that is how memory plans are recorded.
    ///
    /// # Errors
    /// Whatever the computation meets; [`Error::Custom`] for its own mistakes.
    fn forward(&self, inputs: &[RawTensor]) -> Result<RawTensor>;

    /// One gradient per input, of the input's shape and dtype, `None` where there is none; from the
    /// inputs, the output and its gradient, which is contiguous. The default says that the operation
    /// has no gradient.
    ///
    /// # Errors
    /// Whatever the computation meets.
    fn backward(
        &self,
        inputs: &[RawTensor],
        output: &RawTensor,
        grad: &RawTensor,
    ) -> Result<Vec<Option<RawTensor>>> {
        let _ = (inputs, output, grad);
        Err(Error::Custom {
            op: self.name(),
            what: "has no backward; implement CustomOp::backward".to_owned(),
        })
    }
}

struct Custom {
    op: Arc<dyn CustomOp>,
    inputs: Vec<Saved>,
    output: RawTensor,
}

impl Function for Custom {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let inputs: Vec<RawTensor> = self.inputs.iter().map(Saved::value).collect::<Result<_>>()?;
        let gradients = self.op.backward(&inputs, &self.output, &contiguous(&grad)?)?;
        let (op, given, expected) = (self.op.name(), gradients.len(), inputs.len());
        if given != expected {
            let what = format!("backward gave {given} gradients for {expected} inputs");
            return Err(Error::Custom { op, what });
        }
        drop((self, inputs, grad));
        for (index, gradient) in gradients.into_iter().enumerate() {
            if let Some(gradient) = gradient {
                cx.add(index, gradient)?;
            }
        }
        Ok(())
    }
}

impl Tensor {
    /// Applies an operation defined outside the engine.
    ///
    /// # Errors
    /// Whatever the operation meets.
    #[track_caller]
    pub fn apply(op: impl CustomOp, inputs: &[&Tensor]) -> Result<Tensor> {
        let op: Arc<dyn CustomOp> = Arc::new(op);
        let raws: Vec<RawTensor> = inputs.iter().map(|input| input.raw().clone()).collect();
        let output = op.forward(&raws)?;
        Ok(Tensor::from_op(op.name(), output.clone(), inputs, || Custom {
            op: op.clone(),
            inputs: inputs.iter().map(|input| input.save()).collect(),
            output,
        }))
    }
}
