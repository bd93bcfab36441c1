//! One unit's forward and backward: the same code for planning and for real.

use slimpipe_autograd::{TapeEnd, Tensor};
use slimpipe_runtime::{DType, RawTensor};

use super::{Error, Result, SliceContext, Stage, StageInput, StageOutput, StageSpec};

/// The stage input a raw tensor is, and the tape's end that its gradient arrives at.
pub(crate) fn tokens_or_hidden(raw: RawTensor) -> (StageInput, Option<TapeEnd>) {
    if raw.dtype() == DType::U32 {
        return (StageInput::Tokens(raw), None);
    }
    let leaf = Tensor::leaf(raw);
    let end = leaf.tape_end().ok();
    (StageInput::Hidden(leaf), end)
}

/// Runs forward; gives the output without its history, and its place on the tape.
pub(crate) fn forward(
    stage: &dyn Stage,
    spec: &StageSpec,
    input: StageInput,
    cx: &mut SliceContext<'_>,
) -> Result<(RawTensor, TapeEnd)> {
    let wrong = |got, expected| Error::WrongOutput { stage: spec.stage, got, expected };
    let output = match (stage.forward(input, cx)?, spec.gives_loss()) {
        (StageOutput::Hidden(x), false) => x,
        (StageOutput::Loss(loss), true) => loss,
        (StageOutput::Hidden(_), true) => return Err(wrong("hidden states", "the loss")),
        (StageOutput::Loss(_), false) => return Err(wrong("a loss", "hidden states")),
    };
    let root = output.tape_end()?;
    let raw = output.detach().contiguous()?.raw().clone();
    Ok((raw, root))
}
