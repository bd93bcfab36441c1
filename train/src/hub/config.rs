//! The shape of a Llama, and what follows from it.

use super::{FieldError, RopeScaling, rope};

/// A Llama's configuration, in the names of Hugging Face.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Number of tokens there are.
    pub vocab_size: usize,
    /// Elements per token between layers.
    pub hidden_size: usize,
    /// Elements per token inside an MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; a divisor of the query heads.
    pub num_key_value_heads: usize,
    /// Elements of a head; even. Usually, not always, the hidden size over the query heads.
    pub head_dim: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are scaled for long contexts, if they are.
    pub rope_scaling: Option<RopeScaling>,
    /// The context the model is made for. Informative: longer sequences run too.
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text.
    pub eos_token_id: Vec<u32>,
}

/// Far above any model; keeps what hostile numbers can ask for finite.
const MOST: usize = 1 << 24;
const MOST_LAYERS: usize = 1 << 16;
const MOST_TOKENS: usize = 1 << 31;
const MOST_PARAMETERS: u64 = 1 << 56;

impl LlamaConfig {
    /// Checks that the fields describe a model.
    ///
    /// # Errors
    /// Names the first field that does not, and what would do.
    pub fn validate(&self) -> Result<(), FieldError> {
        for (field, value, most) in [
            ("vocab_size", self.vocab_size, MOST_TOKENS),
            ("hidden_size", self.hidden_size, MOST),
            ("intermediate_size", self.intermediate_size, MOST),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MOST),
            ("num_key_value_heads", self.num_key_value_heads, MOST),
            ("head_dim", self.head_dim, MOST),
            ("max_position_embeddings", self.max_position_embeddings, usize::MAX),
        ] {
            if value == 0 || value > most {
                let what = format!("is {value}; it must be between 1 and {most}");
                return Err(FieldError::new(field, what));
            }
        }
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(kv_heads) {
            let what = format!("is {kv_heads}, which does not divide num_attention_heads {heads}");
            return Err(FieldError::new("num_key_value_heads", what));
        }
        if !self.head_dim.is_multiple_of(2) {
            let what = format!("is {}; rotary positions need an even head size", self.head_dim);
            return Err(FieldError::new("head_dim", what));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            let what = format!("is {}; it must be finite and not negative", self.rms_norm_eps);
            return Err(FieldError::new("rms_norm_eps", what));
        }
        rope::positive("rope_theta", self.rope_theta)?;
        self.rope_scaling.as_ref().map_or(Ok(()), RopeScaling::validate)?;
        if self.parameter_count() > MOST_PARAMETERS {
            let what = "and the other sizes together make more parameters than any machine holds";
            return Err(FieldError::new("hidden_size", what));
        }
        Ok(())
    }

    /// Radians per position of each pair of a head's elements, scaling included.
    pub fn rope_frequencies(&self) -> Vec<f64> {
        rope::frequencies(self.rope_theta, self.head_dim, self.rope_scaling.as_ref())
    }

    /// The model's tensors, by name and shape ([out, in]), in the order of the layers.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let table = || vec![self.vocab_size, self.hidden_size];
        let layers = (0..self.num_hidden_layers).flat_map(|layer| {
            let name = move |part| format!("model.layers.{layer}.{part}.weight");
            self.layer().into_iter().map(move |(part, shape)| (name(part), shape))
        });
        let head = (!self.tie_word_embeddings).then(|| ("lm_head.weight".to_owned(), table()));
        std::iter::once(("model.embed_tokens.weight".to_owned(), table()))
            .chain(layers)
            .chain([("model.norm.weight".to_owned(), vec![self.hidden_size])])
            .chain(head)
    }

    /// The tensors of one layer.
    fn layer(&self) -> [(&'static str, Vec<usize>); 9] {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        let q = self.num_attention_heads.saturating_mul(self.head_dim);
        let kv = self.num_key_value_heads.saturating_mul(self.head_dim);
        [
            ("input_layernorm", vec![width]),
            ("self_attn.q_proj", vec![q, width]),
            ("self_attn.k_proj", vec![kv, width]),
            ("self_attn.v_proj", vec![kv, width]),
            ("self_attn.o_proj", vec![width, q]),
            ("post_attention_layernorm", vec![width]),
            ("mlp.gate_proj", vec![inner, width]),
            ("mlp.up_proj", vec![inner, width]),
            ("mlp.down_proj", vec![width, inner]),
        ]
    }

    /// Number of parameters; a tied head counts once.
    pub fn parameter_count(&self) -> u64 {
        let product = |shape: &[usize]| {
            shape.iter().fold(1u64, |product, &extent| product.saturating_mul(extent as u64))
        };
        let layer = self.layer().iter().fold(0, |sum: u64, (_, s)| sum.saturating_add(product(s)));
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        product(&[tables, self.vocab_size, self.hidden_size])
            .saturating_add(layer.saturating_mul(self.num_hidden_layers as u64))
            .saturating_add(self.hidden_size as u64)
    }
}
