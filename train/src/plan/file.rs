//! A plan as the settings of a run.

use super::{Layout, Model, Setup, Workload};
use crate::config::{Config, ModelSettings};

impl Setup {
    /// The settings that `slimpipe train` takes for it.
    pub fn config(&self, work: &Workload) -> Config {
        let Layout { tensor, context, pipeline, expert, data, slices, chunks } = self.layout;
        let mut config = Config { model: settings(&work.model), ..Config::default() };
        let (train, parallel) = (&mut config.train, &mut config.parallel);
        train.seq_len = work.context as usize;
        train.microbatches = work.batch;
        train.dtype = work.dtype;
        parallel.pipeline = pipeline;
        parallel.slices = slices;
        parallel.chunks = chunks;
        parallel.schedule = self.schedule.name().to_owned();
        parallel.data = data;
        parallel.exchange = Some(self.exchange.to_string());
        parallel.vocabulary = Some(self.vocabulary);
        parallel.tensor = tensor;
        parallel.context = context;
        parallel.expert = expert;
        config.memory.recompute = self.recompute;
        config.memory.offload = self.offload;
        config
    }
}

fn settings(model: &Model) -> ModelSettings {
    let of = &model.dense;
    ModelSettings {
        path: None,
        vocab_size: of.vocab_size,
        hidden_size: of.hidden_size,
        intermediate_size: of.intermediate_size,
        num_hidden_layers: of.num_hidden_layers,
        num_attention_heads: of.num_attention_heads,
        num_key_value_heads: of.num_key_value_heads,
        head_dim: Some(of.head_dim),
        rope_theta: of.rope_theta,
        rms_norm_eps: of.rms_norm_eps,
        tie_word_embeddings: of.tie_word_embeddings,
        num_local_experts: model.experts.map_or(0, |experts| experts.count),
        num_experts_per_tok: model.experts.map_or(0, |experts| experts.per_token),
    }
}
