//! Loss without training: forward only, slice by slice, nothing kept but keys and values.

use slimpipe_autograd::{IGNORE, KvCache, no_grad};
use slimpipe_runtime::{Device, RawTensor};

use super::{Error, Result, Sequence, SliceContext, Stage, StageInput, StageOutput, StageSpec};

/// The summed loss (nats) of `sequence` under `stage`, which holds the whole model, and how many
/// labels it counts. Slices are of `spec.slice_len` tokens; the last may be shorter.
///
/// # Errors
/// A stage that is not the whole model, out of memory, or a computation failed.
pub fn evaluate(stage: &dyn Stage, spec: &StageSpec, sequence: &Sequence) -> Result<(f64, usize)> {
    let _no_grad = no_grad();
    let mut caches: Vec<KvCache> = spec.layers.clone().map(|_| KvCache::new()).collect();
    let (mut sum, mut counted, mut offset) = (0.0, 0, 0);
    let slices = sequence.tokens.chunks(spec.slice_len).zip(sequence.labels.chunks(spec.slice_len));
    for (tokens, labels) in slices {
        counted += labels.iter().filter(|&&label| label != IGNORE).count();
        let input = StageInput::Tokens(RawTensor::from_slice(tokens, tokens.len(), Device::Cpu)?);
        let labels = RawTensor::from_slice(labels, labels.len(), Device::Cpu)?;
        let mut cx = SliceContext {
            offset,
            labels: Some(labels),
            loss_scale: 1.0,
            first_layer: spec.layers.start,
            caches: &mut caches,
        };
        match stage.forward(input, &mut cx)? {
            StageOutput::Loss(loss) => sum += f64::from(loss.to_scalar()?),
            StageOutput::Hidden(_) => {
                let (got, expected) = ("hidden states", "the loss");
                return Err(Error::WrongOutput { stage: spec.stage, got, expected });
            }
        }
        offset += tokens.len();
    }
    Ok((sum, counted))
}
