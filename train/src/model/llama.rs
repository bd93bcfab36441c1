//! Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU.
//!
//! Parameters carry their Hugging Face names and shapes ([out, in]), so weights go in and out
//! unchanged.

use std::sync::Arc;

use slimpipe_autograd::{KvCache, Parameter, RopeTable, Tensor};
use slimpipe_pipeline::execute::{
    self, SliceContext, Stage, StageInput, StageOutput, StageSpec, VocabularyDeal, VocabularyPart,
};
use slimpipe_runtime::{DType, Device};

use super::block::Block;
use super::{Recompute, Source};
use crate::Result;
use crate::hub::LlamaConfig;

/// The layers of a Llama that one pipeline stage runs.
pub struct LlamaStage {
    embedding: Option<Parameter>,
    vocabulary: Option<VocabularyPart>,
    layers: Vec<Layer>,
    head: Option<Head>,
    tied: Option<Parameter>,
    width: usize,
    dtype: DType,
}

struct Layer {
    index: usize,
    block: Arc<Block>,
    recompute: Recompute,
}

struct Head {
    norm: Parameter,
    /// None where all ranks share the vocabulary.
    weight: Option<Parameter>,
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
        let embedding = spec.reads_tokens().then(table).transpose()?;
        let vocabulary = match spec.vocabulary.part(config.vocab_size)? {
            Some((deal, rank)) => Some(vocabulary_part(config, deal, rank, source, dtype)?),
            None => None,
        };
        let rope =
            Arc::new(RopeTable::new(config.rope_frequencies(), spec.slice_len, Device::current())?);
        let mut layers = Vec::with_capacity(spec.layers.len());
        for index in spec.layers.clone() {
            let block = Arc::new(Block::new(config, index, rope.clone(), &parameter)?);
            layers.push(Layer { index, block, recompute: Recompute::None });
        }
        let mut head = None;
        if spec.is_last() {
            let weight = match (&embedding, config.tie_word_embeddings) {
                _ if !spec.gives_loss() => None,
                (Some(embedding), true) => Some(embedding.clone()),
                (None, true) => Some(table()?),
                (_, false) => Some(parameter("lm_head.weight", &[config.vocab_size, width])?),
            };
            head = Some(Head { norm: parameter("model.norm.weight", &[width])?, weight, eps });
        }
        let shared = embedding.as_ref().or(head.as_ref().and_then(|head| head.weight.as_ref()));
        let tied = shared.filter(|_| config.tie_word_embeddings && spec.stages > 1).cloned();
        Ok(Self { embedding, vocabulary, layers, head, tied, width, dtype })
    }

    /// The same stage, whose layers make again in backward what `of` says; it is given a layer's index
    /// in the model.
    pub fn recompute(mut self, of: impl Fn(usize) -> Recompute) -> Self {
        self.layers.iter_mut().for_each(|layer| layer.recompute = of(layer.index));
        self
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
        let weight = head.weight.as_ref().ok_or_else(whole)?;
        let mut x = embedding.tensor().embedding(ids)?;
        for (layer, cache) in self.layers.iter().zip(caches) {
            x = layer.block.forward(x, cache, layer.recompute)?;
        }
        let x = x.rms_norm(&head.norm.tensor(), head.eps)?;
        Ok(x.linear(&weight.tensor())?.to_dtype(DType::F32)?)
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
        for Layer { index, block, recompute } in &self.layers {
            let _layer = slimpipe_allocator::scope::layer(*index as u32);
            x = block.forward(x, cx.kv(*index), *recompute)?;
        }
        let Some(head) = &self.head else { return Ok(StageOutput::Hidden(x)) };
        let y = x.rms_norm(&head.norm.tensor(), head.eps)?;
        drop(x);
        Ok(match &head.weight {
            Some(weight) => {
                StageOutput::Loss(y.head_loss(weight, cx.labels()?, cx.loss_scale())?)
            }
            None => StageOutput::Hidden(y),
        })
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut all: Vec<Parameter> = self.embedding.iter().cloned().collect();
        if let Some(VocabularyPart { embedding, head, .. }) = &self.vocabulary {
            all.push(embedding.clone());
            all.extend((head.name() != embedding.name()).then(|| head.clone()));
        }
        all.extend(self.layers.iter().flat_map(|layer| layer.block.parameters()).cloned());
        if let Some(head) = &self.head {
            let is_embedding = |weight: &&Parameter| {
                self.embedding.as_ref().is_some_and(|embedding| embedding.name() == weight.name())
            };
            all.push(head.norm.clone());
            all.extend(head.weight.as_ref().filter(|weight| !is_embedding(weight)).cloned());
        }
        all
    }

    fn hidden(&self) -> (usize, DType) {
        (self.width, self.dtype)
    }

    fn tied(&self) -> Option<Parameter> {
        self.tied.clone()
    }

    fn vocabulary(&self) -> Option<VocabularyPart> {
        self.vocabulary.clone()
    }
}

/// The rows of embedding and output layer that `rank` has.
fn vocabulary_part(
    config: &LlamaConfig,
    deal: VocabularyDeal,
    rank: u32,
    source: &Source<'_>,
    dtype: DType,
) -> Result<VocabularyPart> {
    let shape = [config.vocab_size, config.hidden_size];
    let rows = |name| source.rows(name, &shape, deal.tokens(rank), dtype);
    let embedding = rows("model.embed_tokens.weight")?;
    let head = match config.tie_word_embeddings {
        true => embedding.clone(),
        false => rows("lm_head.weight")?,
    };
    Ok(VocabularyPart { embedding, head, deal })
}
