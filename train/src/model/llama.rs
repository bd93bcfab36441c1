//! Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU.
//!
//! Parameters carry their Hugging Face names and shapes ([out, in]), so weights go in and out
//! unchanged.

use std::sync::Arc;

use slimpipe_autograd::{KvCache, Parameter, RopeTable, Tensor};
use slimpipe_pipeline::execute::{self, SliceContext, Stage, StageInput, StageOutput, StageSpec};
use slimpipe_runtime::DType;

use super::Source;
use crate::Result;
use crate::hub::LlamaConfig;

/// The layers of a Llama that one pipeline stage runs.
pub struct LlamaStage {
    embedding: Option<Parameter>,
    blocks: Vec<Block>,
    head: Option<Head>,
    tied: Option<Parameter>,
    width: usize,
    dtype: DType,
}

struct Block {
    layer: usize,
    attention: Attention,
    mlp: Mlp,
    eps: f32,
}

struct Attention {
    norm: Parameter,
    q: Parameter,
    k: Parameter,
    v: Parameter,
    o: Parameter,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rope: Arc<RopeTable>,
}

struct Mlp {
    norm: Parameter,
    gate: Parameter,
    up: Parameter,
    down: Parameter,
}

struct Head {
    norm: Parameter,
    weight: Parameter,
    eps: f32,
}

impl LlamaStage {
    /// The part `spec` of the model `config`, with weights from `source` as `dtype`.
    ///
    /// # Errors
    /// Out of memory, or weights that are missing or do not fit.
    pub fn new(
        config: &LlamaConfig,
        spec: &StageSpec,
        source: &Source<'_>,
        dtype: DType,
    ) -> Result<Self> {
        let parameter = |name: &str, shape: &[usize]| source.parameter(name, shape, dtype);
        let (width, eps) = (config.hidden_size, config.rms_norm_eps as f32);
        let table = || parameter("model.embed_tokens.weight", &[config.vocab_size, width]);
        let embedding = spec.is_first().then(table).transpose()?;
        let rope = Arc::new(RopeTable::new(config.rope_frequencies(), spec.slice_len)?);
        let mut blocks = Vec::with_capacity(spec.layers.len());
        for layer in spec.layers.clone() {
            blocks.push(Block {
                layer,
                attention: Attention::new(config, layer, rope.clone(), &parameter)?,
                mlp: Mlp::new(config, layer, &parameter)?,
                eps,
            });
        }
        let mut head = None;
        if spec.is_last() {
            let weight = match (&embedding, config.tie_word_embeddings) {
                (Some(embedding), true) => embedding.clone(),
                (None, true) => table()?,
                (_, false) => parameter("lm_head.weight", &[config.vocab_size, width])?,
            };
            head = Some(Head { norm: parameter("model.norm.weight", &[width])?, weight, eps });
        }
        let shared = embedding.as_ref().or(head.as_ref().map(|head| &head.weight));
        let tied = shared.filter(|_| config.tie_word_embeddings && spec.stages > 1).cloned();
        Ok(Self { embedding, blocks, head, tied, width, dtype })
    }

    /// The logits of a whole sequence in one piece, [rows, vocab] (f32): for evaluation and tests.
    /// Meaningful on a stage that holds the whole model.
    ///
    /// # Errors
    /// The stage lacks the embedding or the head, or a computation failed.
    pub fn logits(
        &self,
        ids: &slimpipe_runtime::RawTensor,
        caches: &mut [KvCache],
    ) -> Result<Tensor> {
        let whole = || crate::Error::PartialModel;
        let embedding = self.embedding.as_ref().ok_or_else(whole)?;
        let head = self.head.as_ref().ok_or_else(whole)?;
        let offset = caches.first().map_or(0, KvCache::tokens);
        let mut x = embedding.tensor().embedding(ids)?;
        for (block, cache) in self.blocks.iter().zip(caches) {
            x = block.forward(x, cache, offset)?;
        }
        let x = x.rms_norm(&head.norm.tensor(), head.eps)?;
        Ok(x.linear(&head.weight.tensor())?.to_dtype(DType::F32)?)
    }
}

impl Stage for LlamaStage {
    fn forward(
        &self,
        input: StageInput,
        cx: &mut SliceContext<'_>,
    ) -> execute::Result<StageOutput> {
        let mut x = match (input, &self.embedding) {
            (StageInput::Hidden(x), _) => x,
            (StageInput::Tokens(ids), Some(embedding)) => embedding.tensor().embedding(&ids)?,
            (StageInput::Tokens(_), None) => return Err(execute::Error::UnexpectedInput),
        };
        let offset = cx.offset();
        for block in &self.blocks {
            let _layer = slimpipe_allocator::scope::layer(block.layer as u32);
            x = block.forward(x, cx.kv(block.layer), offset)?;
        }
        let Some(head) = &self.head else { return Ok(StageOutput::Hidden(x)) };
        let y = x.rms_norm(&head.norm.tensor(), head.eps)?;
        drop(x);
        Ok(StageOutput::Loss(y.head_loss(&head.weight, cx.labels()?, cx.loss_scale())?))
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut all: Vec<Parameter> = self.embedding.iter().cloned().collect();
        for Block { attention: a, mlp: m, .. } in &self.blocks {
            let block = [&a.norm, &a.q, &a.k, &a.v, &a.o, &m.norm, &m.gate, &m.up, &m.down];
            all.extend(block.into_iter().cloned());
        }
        if let Some(head) = &self.head {
            all.push(head.norm.clone());
            if self.embedding.as_ref().is_none_or(|e| e.name() != head.weight.name()) {
                all.push(head.weight.clone());
            }
        }
        all
    }

    fn hidden(&self) -> (usize, DType) {
        (self.width, self.dtype)
    }

    fn tied(&self) -> Option<Parameter> {
        self.tied.clone()
    }
}

type Make<'a> = &'a dyn Fn(&str, &[usize]) -> Result<Parameter>;

impl Block {
    fn forward(
        &self,
        x: Tensor,
        cache: &mut KvCache,
        offset: usize,
    ) -> slimpipe_autograd::Result<Tensor> {
        let x = self.attention.forward(&x, self.eps, cache, offset)?.add_into(&x)?;
        self.mlp.forward(&x, self.eps)?.add_into(&x)
    }
}

impl Attention {
    fn new(
        config: &LlamaConfig,
        layer: usize,
        rope: Arc<RopeTable>,
        make: Make<'_>,
    ) -> Result<Self> {
        let width = config.hidden_size;
        let (heads, kv_heads, head_dim) =
            (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let name = |part: &str| format!("model.layers.{layer}.self_attn.{part}_proj.weight");
        Ok(Self {
            norm: make(&format!("model.layers.{layer}.input_layernorm.weight"), &[width])?,
            q: make(&name("q"), &[heads * head_dim, width])?,
            k: make(&name("k"), &[kv_heads * head_dim, width])?,
            v: make(&name("v"), &[kv_heads * head_dim, width])?,
            o: make(&name("o"), &[width, heads * head_dim])?,
            heads,
            kv_heads,
            head_dim,
            rope,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        eps: f32,
        cache: &mut KvCache,
        offset: usize,
    ) -> slimpipe_autograd::Result<Tensor> {
        let rows = x.dims()[0];
        let heads = |x: Tensor, heads: usize| x.reshape((rows, heads, self.head_dim));
        let y = x.rms_norm(&self.norm.tensor(), eps)?;
        let k = heads(y.linear(&self.k.tensor())?, self.kv_heads)?;
        let k = KvCache::place(|| k.rope(&self.rope, offset))?;
        let v = heads(KvCache::place(|| y.linear(&self.v.tensor()))?, self.kv_heads)?;
        let q = heads(y.linear(&self.q.tensor())?, self.heads)?;
        drop(y);
        let q = q.rope(&self.rope, offset)?;
        let out = q.attend(&k, &v, cache, 1.0 / (self.head_dim as f32).sqrt())?;
        out.reshape((rows, self.heads * self.head_dim))?.linear(&self.o.tensor())
    }
}

impl Mlp {
    fn new(config: &LlamaConfig, layer: usize, make: Make<'_>) -> Result<Self> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("model.layers.{layer}.mlp.{part}_proj.weight");
        Ok(Self {
            norm: make(&format!("model.layers.{layer}.post_attention_layernorm.weight"), &[width])?,
            gate: make(&name("gate"), &[inner, width])?,
            up: make(&name("up"), &[inner, width])?,
            down: make(&name("down"), &[width, inner])?,
        })
    }

    fn forward(&self, x: &Tensor, eps: f32) -> slimpipe_autograd::Result<Tensor> {
        let y = x.rms_norm(&self.norm.tensor(), eps)?;
        let gate = y.linear(&self.gate.tensor())?;
        let up = y.linear(&self.up.tensor())?;
        drop(y);
        gate.swiglu(&up)?.linear(&self.down.tensor())
    }
}
