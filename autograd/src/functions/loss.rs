//! Cross-entropy: on logits, and fused with the output layer.

use slimpipe_ops::cross_entropy as ops;
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
    /// `labels` (i64 `[rows]`, -100 ignored), times `factor`.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit, a label outside the vocabulary, out of memory.
    #[track_caller]
    pub fn cross_entropy(&self, labels: &RawTensor, factor: f32) -> Result<Self> {
        let (loss, gradient) = ops::cross_entropy(self.raw(), labels, factor)?;
        Ok(Self::from_op("cross_entropy", loss, &[self], || Ready { gradient, head: false }))
    }

    /// Output layer and loss in one: the summed cross-entropy of the logits `self weight^T` against
    /// `labels` (i64 `[rows]`, -100 ignored), times `factor`, for `self` `[rows, width]` and `weight`
    /// [vocab, width]. No more than one block of logits is ever held.
    ///
    /// The weight's gradient is accumulated here, in forward, and the input's is saved. So the
    /// result must be the root of backward (put every factor into `factor`), and forward must not
    /// be run without a backward unless under `no_grad`.
    ///
    /// # Errors
    /// As [`Tensor::cross_entropy`].
    #[track_caller]
    pub fn head_loss(&self, weight: &Parameter, labels: &RawTensor, factor: f32) -> Result<Self> {
        let (x, head) = (self.raw(), weight.tensor());
        if !is_recording() {
            return Ok(ops::head_loss(x, head.raw(), labels, factor)?.into());
        }
        let run = |dweight: Option<(&mut RawTensor, bool)>| {
            Ok(ops::head_loss_grad(x, head.raw(), labels, factor, dweight)?)
        };
        let (loss, gradient) = if x.is_meta() || head.raw().is_meta() {
            run(None)? // shapes only: the accumulator is left alone
        } else {
            weight.inner().accumulate(|dweight, overwrite| run(Some((dweight, overwrite))))?
        };
        // The weight is an input although its gradient is complete: a loss on constant rows, too, has
        // a backward.
        Ok(Self::from_op("head_loss", loss, &[self, &head], || Ready { gradient, head: true }))
    }
}
