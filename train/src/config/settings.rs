//! The sections of a configuration and their defaults: a tiny Llama on four ranks.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use slimpipe_runtime::DType;

use super::{ByteSize, Layers};
use crate::model::Recompute;

/// `[model]`: the shape of a Llama, or a folder to start from. Names are those of Hugging Face.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// A Hugging Face folder: its `config.json` replaces the other settings, its weights are where
    /// training begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Tokens in the vocabulary; 256 for bytes.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Elements of a head; hidden_size / num_attention_heads unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in norms.
    pub rms_norm_eps: f64,
    /// Whether the output layer is the embedding's table.
    pub tie_word_embeddings: bool,
    /// Experts in each layer; 0 in a model without.
    pub num_local_experts: u32,
    /// Experts that each token goes through.
    pub num_experts_per_tok: u32,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            path: None,
            vocab_size: 256,
            hidden_size: 128,
            intermediate_size: 384,
            num_hidden_layers: 8,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: None,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: false,
            num_local_experts: 0,
            num_experts_per_tok: 0,
        }
    }
}

/// `[data]`: what is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// Text files, folders of text (read in the order of their names), or token files (`.bin`).
    pub paths: Vec<PathBuf>,
    /// A Hugging Face `tokenizer.json`; unless set that of `model.path`, and bytes without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// How many tokens there must be. A run writes it down when it begins, so that it does not go on
    /// with data that was changed meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
}

impl Default for DataSettings {
    fn default() -> Self {
        Self { paths: vec![PathBuf::from(".")], tokenizer: None, tokens: None }
    }
}

/// The dtype of weights and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// bf16 weights and activations, f32 master weights, moments and gradient accumulators.
    Bf16,
}

impl TryFrom<String> for Precision {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("there is no dtype `{name}`; it must be `f32` or `bf16`")),
        }
    }
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::BF16,
        }
    }
}

/// `[train]`: the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// Tokens in a sequence.
    pub seq_len: usize,
    /// Sequences in a step, over all data ranks.
    pub microbatches: u32,
    /// Steps in all, those before a resume included.
    pub steps: u64,
    /// Seed of weights and sampling.
    pub seed: u64,
    /// The dtype of weights and activations.
    pub dtype: Precision,
    /// What computes: `cpu`; an NVIDIA GPU, `cuda` or `cuda:1`, which all ranks share; one for each rank,
    /// `cuda:0,1,2,3`; or `cuda` in each process of a launcher, whose GPU is that of its local rank.
    pub device: String,
    /// Highest learning rate.
    pub lr: f64,
    /// Learning rate at the last step.
    pub min_lr: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// AdamW's decay of weights (not of norms).
    pub weight_decay: f64,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// AdamW's epsilon.
    pub eps: f64,
    /// Gradients are scaled to at most this global norm; 0 leaves them alone.
    pub clip_norm: f64,
    /// Steps between checkpoints; 0 writes one at the end only.
    pub checkpoint_every: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            seq_len: 1024,
            microbatches: 2,
            steps: 80,
            seed: 0,
            dtype: Precision::F32,
            device: "cpu".to_owned(),
            lr: 3e-3,
            min_lr: 3e-4,
            warmup_steps: 10,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            clip_norm: 1.0,
            checkpoint_every: 0,
        }
    }
}

/// `[parallel]`: the ranks and the schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParallelSettings {
    /// Pipeline ranks, p.
    pub pipeline: u32,
    /// Data ranks, d: pipelines side by side, which share out a step's sequences.
    pub data: u32,
    /// Tensor parallel ranks, t.
    pub tensor: u32,
    /// Context parallel ranks, c.
    pub context: u32,
    /// Expert parallel ranks, e, of those of the data and context axes.
    pub expert: u32,
    /// Slices per sequence, n.
    pub slices: u32,
    /// Model chunks per rank, v.
    pub chunks: u32,
    /// The schedule's name: one of those that are executed.
    pub schedule: String,
    /// Whether every rank has a part of embedding and output layer, rather than the first and the
    /// last one all of them; unless set, where it pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<bool>,
    /// How attention is shared among ranks: `off`, `paper` or `balanced`; unless set balanced where it
    /// pays. A run writes down what it chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// Threads that share one rank's operations; 0 divides the cores among the ranks.
    pub threads: usize,
    /// Seconds until a rank on a GPU of its own gives up on the others: when they meet, and in each
    /// message or collective.
    pub timeout: u32,
}

impl Default for ParallelSettings {
    fn default() -> Self {
        Self {
            pipeline: 4,
            data: 1,
            tensor: 1,
            context: 1,
            expert: 1,
            slices: 8,
            chunks: 1,
            schedule: "slimpipe".to_owned(),
            exchange: None,
            vocabulary: None,
            threads: 0,
            timeout: 600,
        }
    }
}

/// `[memory]`: each rank's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemorySettings {
    /// Bytes each rank may hold, such as `512 MiB`; no limit unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<ByteSize>,
    /// What layers do not keep from forward to backward, and make again: `none`, `partial` or `full`.
    pub recompute: Recompute,
    /// The layers that recompute, such as `0-3, 8-11`; all unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recompute_layers: Option<Layers>,
    /// The part, 0 to 1, of each unit's activations that waits in a file between forward and backward.
    pub offload: f64,
    /// Where that file is, one per rank, without a name; in the run's folder unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offload_folder: Option<PathBuf>,
    /// Whether an allocation that no plan foresaw is an error.
    pub strict: bool,
    /// Whether memory events are logged.
    pub trace: bool,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            limit: None,
            recompute: Recompute::None,
            recompute_layers: None,
            offload: 0.0,
            offload_folder: None,
            strict: false,
            trace: true,
        }
    }
}
