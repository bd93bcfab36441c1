//! Floating-point operations per trained token, for model FLOPs utilisation (MFU).
//!
//! A multiply-add counts as two. Forward and backward of a matrix take six per weight; attention
//! takes 6 L s h per token when the causal half is counted (4 s h forward per layer on average over
//! a causal triangle is 2 s h, and backward twice that), and 12 L s h in the older convention that
//! counts the masked half as well. The embedding lookup multiplies nothing.

use slimpipe_pipeline::schedule::TokenCost;

use crate::hub::LlamaConfig;

/// FLOPs per token of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlopsPerToken {
    /// Causal attention counted once: 6 N + 6 L s h.
    pub causal: f64,
    /// Attention counted as if nothing were masked: 6 N + 12 L s h.
    pub noncausal: f64,
}

impl FlopsPerToken {
    /// Of a Llama at sequences of `seq_len` tokens.
    pub fn of(config: &LlamaConfig, seq_len: usize) -> Self {
        let [layers, hidden, vocab] =
            [config.num_hidden_layers, config.hidden_size, config.vocab_size].map(|x| x as f64);
        let matrices = layers * layer_weights(config) + hidden * vocab;
        let attention = layers * seq_len as f64 * query_width(config);
        Self {
            causal: 6.0 * matrices + 6.0 * attention,
            noncausal: 6.0 * matrices + 12.0 * attention,
        }
    }
}

/// FLOPs of a token in the forward of one layer: two per weight, and four per element of the query
/// for each token that it attends to.
pub fn token_cost(config: &LlamaConfig) -> TokenCost {
    TokenCost { own: 2.0 * layer_weights(config), each_earlier: 4.0 * query_width(config) }
}

/// The same for the output layer, whose weights are used as often as a layer's.
pub fn head_cost(config: &LlamaConfig) -> f64 {
    2.0 * config.hidden_size as f64 * config.vocab_size as f64
}

/// Weights of one layer's matrices.
fn layer_weights(config: &LlamaConfig) -> f64 {
    let [hidden, ffn] = [config.hidden_size, config.intermediate_size].map(|x| x as f64);
    let kv = (config.num_key_value_heads * config.head_dim) as f64;
    hidden * (2.0 * query_width(config) + 2.0 * kv + 3.0 * ffn)
}

fn query_width(config: &LlamaConfig) -> f64 {
    (config.num_attention_heads * config.head_dim) as f64
}
