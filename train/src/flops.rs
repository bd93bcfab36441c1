//! Floating-point operations per trained token, for model FLOPs utilisation (MFU).
//!
//! A multiply-add counts as two. Forward and backward of a matrix take six per weight; attention
//! takes 6 L s h per token when the causal half is counted (4 s h forward per layer on average over
//! a causal triangle is 2 s h, and backward twice that), and 12 L s h in the older convention that
//! counts the masked half as well. The embedding lookup multiplies nothing.

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
        let [layers, hidden, ffn, vocab] = [
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            config.vocab_size,
        ]
        .map(|x| x as f64);
        let q = (config.num_attention_heads * config.head_dim) as f64;
        let kv = (config.num_key_value_heads * config.head_dim) as f64;
        let matrices = layers * hidden * (2.0 * q + 2.0 * kv + 3.0 * ffn) + hidden * vocab;
        let attention = layers * seq_len as f64 * q;
        Self {
            causal: 6.0 * matrices + 6.0 * attention,
            noncausal: 6.0 * matrices + 12.0 * attention,
        }
    }
}
