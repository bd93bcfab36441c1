//! Cross-entropy: on logits, and fused with the output layer.

use slimpipe_ops::cross_entropy::{self as ops, HeadGrad};
use slimpipe_ops::elementwise::scale;
use slimpipe_runtime::RawTensor;

use crate::engine::Backward;
use crate::node::Function;
use crate::{Error, Parameter, Result, Tensor, is_recording};

/// The gradient of the logits (or of the head's input) was made in forward.
struct Ready {
    gradient: RawTensor,
    head: bool,
}

impl Function for Ready {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let factor = if grad.is_meta() { 1.0 } else { grad.to_vec::<f32>()?[0] };
        if factor == 1.0 {
            return cx.add(0, self.gradient);
        }
        if self.head {
            return Err(Error::HeadNotRoot { got: factor });
        }
        cx.add(0, scale(&self.gradient, factor)?)
    }
}

impl Tensor {
    /// The summed cross-entropy (nats) of the rows of `self` (f32 logits [rows, vocab]) against
    /// `labels` (i64 [rows], -100 ignored), times `factor`.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit, a label outside the vocabulary, out of memory.
    #[track_caller]
    pub fn cross_entropy(&self, labels: &RawTensor, factor: f32) -> Result<Self> {
        let (loss, gradient) = ops::cross_entropy(self.raw(), labels, factor)?;
        Ok(Self::from_op("cross_entropy", loss, &[self], || Ready { gradient, head: false }))
    }

    /// Output layer and loss in one: the summed cross-entropy of `self weight^T` against `labels`
    /// (i64 [rows], -100 ignored), times `factor`, without ever holding all logits.
    ///
    /// The weight's gradient is accumulated here, in forward, and the input's is saved. So the
    /// result must be the root of backward (put every factor into `factor`), and forward must not
    /// be run without a backward unless under `no_grad`.
    ///
    /// # Errors
    /// As [`Tensor::cross_entropy`].
    #[track_caller]
    pub fn head_loss(&self, weight: &Parameter, labels: &RawTensor, factor: f32) -> Result<Self> {
        let value = weight.tensor();
        if !is_recording() {
            let head = ops::head(self.raw(), value.raw(), labels, factor, HeadGrad::None)?;
            return Ok(head.loss.into());
        }
        let meta = self.raw().is_meta();
        let mut head = None;
        if meta {
            head = Some(ops::head(self.raw(), value.raw(), labels, factor, HeadGrad::Full(None))?);
        } else {
            weight.inner().accumulate(|dw, overwrite| {
                let grad = HeadGrad::Full(Some((dw, overwrite)));
                head = Some(ops::head(self.raw(), value.raw(), labels, factor, grad)?);
                Ok(())
            })?;
        }
        let ops::Head { loss, dx } = head.expect("one of the two branches ran");
        let gradient = dx.expect("gradients were asked for");
        Ok(Self::from_op("head_loss", loss, &[self], || Ready { gradient, head: true }))
    }
}
