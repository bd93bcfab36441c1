//! Operations from outside: one trait, no edit inside the engine.

use std::sync::Arc;

use slimpipe_runtime::RawTensor;

use crate::engine::Backward;
use crate::node::Function;
use crate::{Error, Result, Tensor};

/// An operation defined outside the engine; see `examples/custom_op.rs`.
pub trait CustomOp: Send + Sync + 'static {
    /// The name in traces and errors.
    fn name(&self) -> &'static str;

    /// Computes the output. On the meta device it must allocate what the real run would, and stop
    /// there: that is how memory plans are recorded.
    ///
    /// # Errors
    /// Whatever the computation meets; [`Error::Custom`] for its own mistakes.
    fn forward(&self, inputs: &[&RawTensor]) -> Result<RawTensor>;

    /// One gradient per input, `None` where there is none, from the inputs, the output and its
    /// gradient. The default says that the operation has no gradient.
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
    inputs: Vec<RawTensor>,
    output: RawTensor,
}

impl Function for Custom {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let gradients = self.op.backward(&self.inputs, &self.output, &grad)?;
        let (op, given, expected) = (self.op.name(), gradients.len(), self.inputs.len());
        if given != expected {
            let what = format!("backward gave {given} gradients for {expected} inputs");
            return Err(Error::Custom { op, what });
        }
        drop((self, grad));
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
    pub fn apply(op: impl CustomOp, inputs: &[&Tensor]) -> Result<Tensor> {
        let op: Arc<dyn CustomOp> = Arc::new(op);
        let raws: Vec<&RawTensor> = inputs.iter().map(|input| input.raw()).collect();
        let output = op.forward(&raws)?;
        Ok(Tensor::from_op(op.name(), output.clone(), inputs, || Custom {
            op: op.clone(),
            inputs: raws.into_iter().cloned().collect(),
            output,
        }))
    }
}
