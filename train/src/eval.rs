//! The loss of a model on data.

use std::path::Path;

use serde::Serialize;
use slimpipe_pipeline::execute::{self, Sequence, StageSpec};
use slimpipe_runtime::DType;

use crate::data::Tokens;
use crate::hub::HubError;
use crate::model::{LlamaStage, Source};
use crate::{Error, Result, hub};

/// Tokens that run through the model at once; earlier ones are seen through their keys and values.
const SLICE: usize = 512;

/// What an evaluation found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean loss per token (nats).
    pub loss: f64,
    /// e to the loss.
    pub perplexity: f64,
    /// Tokens predicted.
    pub tokens: usize,
    /// Windows they came in.
    pub windows: usize,
}

/// The mean next-token loss of the model in folder `model` over consecutive windows of `seq_len`
/// tokens: each window predicts its `seq_len` next tokens; a rest that fills no window is left out.
///
/// # Errors
/// A folder or data that cannot be read, data shorter than a window, out of memory.
pub fn evaluate(model: &Path, tokens: &Tokens, seq_len: usize) -> Result<Evaluation> {
    if seq_len == 0 {
        return Err(Error::setting("--seq-len", "is 0; it must be at least 1"));
    }
    tokens.check_context(seq_len, "--seq-len")?;
    let unusable = |error: HubError| Error::setting("--model", error.to_string());
    let (config, weights) = hub::open(model).map_err(unusable)?;
    let about_data = |error: Error| error.about("--data");
    tokens.check_model(config.vocab_size).map_err(about_data)?;
    let spec = StageSpec::deal(0, 1, config.num_hidden_layers, SLICE.min(seq_len));
    let dtype = match weights.tensor("model.embed_tokens.weight")?.dtype() {
        Some(DType::BF16) => DType::BF16,
        _ => DType::F32,
    };
    let stage = LlamaStage::new(&config, &spec, &Source::Folder(&weights), dtype)?;
    let (mut sum, mut counted) = (0.0, 0);
    let windows = (tokens.len() - 1) / seq_len;
    for window in 0..windows {
        let ids = tokens.window(window * seq_len, seq_len + 1);
        Tokens::check_vocabulary(&ids, config.vocab_size).map_err(about_data)?;
        let (loss, labels) = execute::evaluate(&stage, &spec, &Sequence::next_token(&ids))?;
        sum += loss;
        counted += labels;
    }
    let loss = sum / counted as f64;
    Ok(Evaluation { loss, perplexity: loss.exp(), tokens: counted, windows })
}
