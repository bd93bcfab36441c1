//! The accounting of this runtime: what its allocator will show, term by term.
//!
//! Bytes per token and layer follow from what the model's operations save; a test holds them against
//! the allocator of real runs. Axes that are not built yet are counted as they are planned: tensor,
//! context and expert parallelism divide what they shard.

use slimpipe_ops::cross_entropy::block_rows;
use slimpipe_pipeline::execute::StageSpec;
use slimpipe_pipeline::schedule::{Exchange, Schedule};

use super::walk::walk;
use super::{Memory, Setup, Workload};
use crate::Result;
use crate::config::Precision;
use crate::model::Recompute;
use crate::plan::Layout;

/// What the rank that holds most holds. Where all stages are alike, that is one at an end.
pub fn memory(work: &Workload, setup: &Setup) -> Result<Memory> {
    let schedule = setup.order(work)?;
    let ranks = setup.layout.pipeline;
    let layers = work.model.dense.num_hidden_layers as u64;
    let even = layers.is_multiple_of(setup.layout.stages());
    let candidates = (0..ranks).filter(|rank| !even || [0, ranks - 1].contains(rank));
    let held = candidates.map(|rank| Rank::new(work, setup, &schedule, rank).memory());
    Ok(held.max_by(|a, b| a.peak.total_cmp(&b.peak)).unwrap_or_default())
}

/// What pipeline rank `rank` holds.
///
/// # Errors
/// The schedule does not run this.
pub fn of_rank(work: &Workload, setup: &Setup, rank: u32) -> Result<Memory> {
    Ok(Rank::new(work, setup, &setup.order(work)?, rank).memory())
}

/// A rank, in the quantities that the terms are made of. Widths are elements per token.
pub(in crate::plan) struct Rank<'a> {
    work: &'a Workload,
    setup: &'a Setup,
    schedule: &'a Schedule,
    rank: u32,
    /// Bytes of an element of weights and activations.
    element: f64,
    /// Tokens of a slice on this rank, counting sequence and context parallelism.
    tokens: f64,
    /// Its parts of the model, by chunk.
    stages: Vec<StageSpec>,
}

impl<'a> Rank<'a> {
    pub fn new(work: &'a Workload, setup: &'a Setup, schedule: &'a Schedule, rank: u32) -> Self {
        let Layout { tensor, context, slices, .. } = setup.layout;
        let slice = work.context / u64::from(slices);
        let layers = work.model.dense.num_hidden_layers;
        let placement = schedule.placement();
        let stage = |chunk| {
            let stage = placement.stage(rank, chunk);
            StageSpec::deal(stage, placement.stages(), layers, slice as usize)
        };
        Self {
            work,
            setup,
            schedule,
            rank,
            element: if work.dtype == Precision::F32 { 4.0 } else { 2.0 },
            tokens: slice as f64 / (f64::from(tensor) * f64::from(context)),
            stages: (0..schedule.chunks()).map(stage).collect(),
        }
    }

    fn memory(&self) -> Memory {
        let params_grads = self.parameters() * (self.element + 4.0) + self.rope_tables();
        let optimizer = self.optimizer();
        let most = walk(self.schedule, self.rank, self);
        Memory {
            params_grads,
            optimizer,
            activations: most.saved,
            logits: self.head(),
            recompute: self.unit(0),
            kv_cache: most.kv,
            kv_grad: most.kv_gradients,
            peak: params_grads + optimizer + most.together,
        }
    }

    fn hidden(&self) -> f64 {
        self.work.model.dense.hidden_size as f64
    }

    fn queries(&self) -> f64 {
        (self.work.model.dense.num_attention_heads * self.work.model.dense.head_dim) as f64
    }

    /// Keys alone, or values.
    fn keys(&self) -> f64 {
        (self.work.model.dense.num_key_value_heads * self.work.model.dense.head_dim) as f64
    }

    /// The insides of all MLPs that a token goes through.
    fn inner(&self) -> f64 {
        f64::from(self.work.model.mlps_per_token()) * self.work.model.dense.intermediate_size as f64
    }

    /// The tables of the vocabulary on this rank, in weights: embedding and output layer.
    pub fn tables(&self) -> f64 {
        let tied = self.work.model.dense.tie_word_embeddings;
        let both = if tied { 1.0 } else { 2.0 };
        let Layout { tensor, pipeline, .. } = self.setup.layout;
        let own = if self.setup.vocabulary {
            both / f64::from(pipeline)
        } else {
            match (self.is_first(), self.is_last()) {
                (true, true) => both,
                (false, false) => 0.0,
                _ => 1.0,
            }
        };
        own * self.work.model.table_weights() as f64 / f64::from(tensor)
    }

    fn is_first(&self) -> bool {
        self.stages.iter().any(StageSpec::is_first)
    }

    fn is_last(&self) -> bool {
        self.stages.iter().any(StageSpec::is_last)
    }

    /// Weights of the experts on this rank; none in a model without.
    pub fn experts(&self) -> f64 {
        (0..self.chunks()).map(|chunk| self.chunk_weights(chunk).1).sum()
    }

    /// All other weights on this rank.
    pub fn shared(&self) -> f64 {
        let layers: f64 = (0..self.chunks()).map(|chunk| self.chunk_weights(chunk).0).sum();
        let last = if self.is_last() { self.hidden() } else { 0.0 };
        layers + last + self.tables()
    }

    /// Chunks of the model on this rank.
    pub fn chunks(&self) -> usize {
        self.stages.len()
    }

    /// Weights of a chunk's layers: those of experts last, all others first.
    pub fn chunk_weights(&self, chunk: usize) -> (f64, f64) {
        let (model, Layout { tensor, expert, .. }) = (&self.work.model, self.setup.layout);
        let (t, e) = (f64::from(tensor), f64::from(expert));
        let mlps = f64::from(model.mlps()) * model.mlp_weights() as f64 / t;
        let (dense, experts) = if model.experts.is_some() { (0.0, mlps / e) } else { (mlps, 0.0) };
        let attention = model.attention_weights() as f64 / t;
        let shared = attention + dense + model.router_weights() as f64 + 2.0 * self.hidden();
        let layers = self.chunk_layers(chunk);
        (layers * shared, layers * experts)
    }

    fn parameters(&self) -> f64 {
        self.shared() + self.experts()
    }

    /// Two f32 moments, and f32 master weights where the model's have fewer bits; each dealt to the
    /// ranks that hold the same weights.
    fn optimizer(&self) -> f64 {
        let bytes = if self.work.dtype == Precision::F32 { 8.0 } else { 12.0 };
        let Layout { context, data, expert, .. } = self.setup.layout;
        let copies = f64::from(context) * f64::from(data);
        bytes * (self.shared() / copies + self.experts() * f64::from(expert) / copies)
    }

    /// Rotary sines and cosines of a slice's positions, f32, a table per chunk.
    fn rope_tables(&self) -> f64 {
        let positions = self.tokens * f64::from(self.setup.layout.tensor);
        self.stages.len() as f64 * positions * self.work.model.dense.head_dim as f64 * 4.0
    }

    /// What a layer's forward saves, in bytes per token: the inputs of both norms, queries and the
    /// output of attention, gate and up; f32 log-sum-exps and norms' factors. Outputs of norms and
    /// of SwiGLU are made again.
    fn saved(&self) -> f64 {
        let (h, q, f) = (self.hidden(), self.queries(), self.inner());
        let heads = self.work.model.dense.num_attention_heads as f64;
        match self.setup.recompute {
            Recompute::None => self.element * (2.0 * (h + q + f)) + 8.0 + 4.0 * heads,
            Recompute::Partial => self.element * 2.0 * (h + q) + 4.0 + 4.0 * heads,
            Recompute::Full => self.element * h + 4.0,
        }
    }

    /// What the first stage saves beside its layers: token ids.
    fn saved_first(&self) -> f64 {
        if self.setup.vocabulary { 0.0 } else { 4.0 }
    }

    /// What the last stage does: input and factors of the final norm, and the gradient of its output.
    fn saved_last(&self) -> f64 {
        2.0 * self.element * self.hidden() + 4.0
    }

    fn saved_layer(&self) -> f64 {
        self.tokens * self.saved()
    }

    /// What a unit of `stage` saves.
    pub fn saved_unit(&self, stage: usize) -> f64 {
        let stage = &self.stages[stage];
        let mut bytes = self.saved() * stage.layers.len() as f64;
        bytes += if stage.is_first() { self.saved_first() } else { 0.0 };
        bytes += if stage.is_last() { self.saved_last() } else { 0.0 };
        self.tokens * bytes
    }

    /// What it saves in its lowest layer up to attention: what is left when that runs backward.
    pub(super) fn saved_attention(&self) -> f64 {
        let heads = self.work.model.dense.num_attention_heads as f64;
        self.tokens * (self.element * (self.hidden() + 2.0 * self.queries()) + 4.0 * (1.0 + heads))
    }

    /// Keys and values of a slice in one layer.
    pub(super) fn kv_chunk(&self) -> f64 {
        self.tokens * 2.0 * self.element * self.keys()
    }

    /// Their f32 gradients.
    pub(super) fn kv_gradient(&self) -> f64 {
        self.tokens * 8.0 * self.keys()
    }

    /// Layers of a chunk.
    pub fn chunk_layers(&self, chunk: usize) -> f64 {
        self.stages[chunk].layers.len() as f64
    }

    /// Temporaries of attention's backward: gradients of its output, of queries, of the residual.
    pub(super) fn attention_backward(&self) -> f64 {
        self.tokens * self.element * (2.0 * self.queries() + self.hidden())
    }

    /// What one unit needs while it runs: in backward of an MLP the gradients of its three inner
    /// tensors or of two and of both ends, what is computed again, and messages on their way.
    pub(super) fn unit(&self, chunk: usize) -> f64 {
        let (h, q, f) = (self.hidden(), self.queries(), self.inner());
        let heads = self.work.model.dense.num_attention_heads as f64;
        let gradients = f.max(2.0 * h) + 2.0 * f;
        // Tensor parallel ranks gather a product's input, and its output's gradient.
        let tensor = f64::from(self.setup.layout.tensor);
        let gathered = if tensor > 1.0 { 2.0 * h * tensor } else { 0.0 };
        let (again, statistics) = match self.setup.recompute {
            Recompute::None => (0.0, 0.0),
            Recompute::Partial => (2.0 * f, 1.0),
            Recompute::Full => (2.0 * (f + h + q), 1.0 + heads),
        };
        // The head has saved the gradient of the last stage's output.
        let messages = if self.stages[chunk].is_last() { 1.0 } else { 2.0 };
        self.tokens
            * (self.element * (gradients + again + gathered + messages * h) + 4.0 * statistics)
    }

    /// What attention's backward needs where it is shared with other ranks: a context parallel rank
    /// has queries, outputs and their gradients of the whole slice, or, with whole sequences, keys and
    /// values on their way around; one that attends for another stage has those of its slice, and keys,
    /// values and gradients of up to half a sequence.
    pub(super) fn attention_together(&self) -> f64 {
        let Layout { context, slices, .. } = self.setup.layout;
        let queries = 4.0 * self.tokens * self.element * self.queries();
        let both = self.kv_chunk() + self.kv_gradient();
        let around = match (context, slices) {
            (1, _) => 0.0,
            (_, 1) => 2.0 * both,
            _ => queries * f64::from(context),
        };
        let foreign = match self.setup.exchange {
            Exchange::Off => 0.0,
            _ => queries + f64::from(slices.div_ceil(2)) * both,
        };
        match around + foreign {
            0.0 => 0.0,
            // The MLP has run backward, and is gone.
            more => more + self.attention_backward() + self.saved_attention() - self.saved_layer(),
        }
    }

    /// The share of what units save that travels to the host's memory.
    pub(super) fn offload(&self) -> f64 {
        self.setup.offload
    }

    /// What the head needs while it runs: one block of f32 logits, its gradient in the dtype of the
    /// weights, the final norm's output, labels. Shared, every rank has that of its part, and the
    /// block's input and its f32 gradient.
    pub(super) fn head(&self) -> f64 {
        let Layout { tensor, pipeline, .. } = self.setup.layout;
        let shared = self.setup.vocabulary;
        if !shared && !self.is_last() {
            return 0.0;
        }
        let parts = f64::from(if shared { tensor * pipeline } else { tensor });
        let (rows, h) = (self.tokens * f64::from(tensor), self.hidden());
        let vocabulary = (self.work.model.dense.vocab_size as f64 / parts).ceil();
        let block = block_rows(rows as usize, vocabulary as usize) as f64;
        let low = if self.work.dtype == Precision::F32 { 0.0 } else { self.element };
        let logits = block * vocabulary * (4.0 + low);
        match shared {
            // And three sums per row and rank, and the losses of all rows.
            true => {
                let sums = 12.0 * f64::from(pipeline);
                logits + block * (h * (self.element + 4.0) + sums) + 4.0 * rows
            }
            false => logits + rows * (self.element * h + 8.0),
        }
    }
}
