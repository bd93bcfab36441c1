//! What a model gives the pipeline: stages that run one slice at a time.

use std::ops::Range;

use slimpipe_autograd::{KvCache, Parameter, Tensor};
use slimpipe_runtime::{DType, RawTensor};

use super::{Result, VocabularyDeal, VocabularyPart};

/// Where embedding, output layer and loss are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabularySpec {
    /// The first stage embeds tokens, the last one computes the loss.
    Ends,
    /// On all ranks, outside the stages: the first stage is given hidden states, and the last one
    /// gives those that the output layer takes. This stage holds the part of its rank.
    Part {
        /// The stage's rank.
        rank: u32,
        /// Ranks that share the vocabulary.
        ranks: u32,
    },
    /// The same, and another stage of the rank holds the rank's part.
    Elsewhere,
}

impl VocabularySpec {
    /// How a vocabulary of `tokens` tokens is dealt, and this stage's rank, if the stage holds a part.
    ///
    /// # Errors
    /// Fewer tokens than ranks.
    pub fn part(self, tokens: usize) -> Result<Option<(VocabularyDeal, u32)>> {
        match self {
            Self::Part { rank, ranks } => Ok(Some((VocabularyDeal::new(tokens, ranks)?, rank))),
            Self::Ends | Self::Elsewhere => Ok(None),
        }
    }
}

/// Which part of a model a stage is, given to the function that builds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSpec {
    /// The stage's number, 0 for the one that reads tokens.
    pub stage: u32,
    /// How many stages the model is dealt to.
    pub stages: u32,
    /// The model's layers that belong to this stage.
    pub layers: Range<usize>,
    /// Tokens in the longest slice.
    pub slice_len: usize,
    /// Where embedding, output layer and loss are.
    pub vocabulary: VocabularySpec,
}

impl StageSpec {
    /// Deals `layers` to `stages` stages, as evenly as can be; earlier stages get the remainder.
    ///
    /// # Panics
    /// `stage` is not below `stages`.
    pub fn deal(stage: u32, stages: u32, layers: usize, slice_len: usize) -> Self {
        assert!(stage < stages, "stage {stage} of {stages}");
        let (each, more) = (layers / stages as usize, layers % stages as usize);
        let start = |stage: usize| stage * each + stage.min(more);
        let at = stage as usize;
        let (layers, vocabulary) = (start(at)..start(at + 1), VocabularySpec::Ends);
        Self { stage, stages, layers, slice_len, vocabulary }
    }

    /// Whether it is the first stage.
    pub fn is_first(&self) -> bool {
        self.stage == 0
    }

    /// Whether it is the last stage.
    pub fn is_last(&self) -> bool {
        self.stage + 1 == self.stages
    }

    /// Whether the stage reads tokens: the first does, unless all ranks share the vocabulary.
    pub fn reads_tokens(&self) -> bool {
        self.is_first() && self.vocabulary == VocabularySpec::Ends
    }

    /// Whether the stage computes the loss: the last does, unless all ranks share the vocabulary.
    pub fn gives_loss(&self) -> bool {
        self.is_last() && self.vocabulary == VocabularySpec::Ends
    }
}

/// What flows into a stage.
pub enum StageInput {
    /// The slice's token ids (u32, `[rows]`), where the stage [reads them](StageSpec::reads_tokens).
    Tokens(RawTensor),
    /// The previous stage's output, or the embedding, [rows, width].
    Hidden(Tensor),
}

/// What flows out of a stage: the loss where it [gives it](StageSpec::gives_loss).
pub enum StageOutput {
    /// The next stage's input, or the output layer's, [rows, width].
    Hidden(Tensor),
    /// The slice's loss (f32 scalar), already multiplied by [`SliceContext::loss_scale`].
    Loss(Tensor),
}

/// What a stage may know about the slice it runs.
pub struct SliceContext<'a> {
    pub(crate) offset: usize,
    pub(crate) labels: Option<RawTensor>,
    pub(crate) loss_scale: f32,
    pub(crate) first_layer: usize,
    pub(crate) caches: &'a mut [KvCache],
}

impl SliceContext<'_> {
    /// The position of the slice's first token in its sequence.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The label of each token (i64, `[rows]`, -100 ignored), where the stage gives the loss.
    ///
    /// # Errors
    /// Another stage asked.
    pub fn labels(&self) -> Result<&RawTensor> {
        self.labels.as_ref().ok_or(super::Error::NoLabels)
    }

    /// What a slice's summed loss is multiplied by: one over the labels that count, over all
    /// microbatches of the step. So slices' losses simply add up.
    pub fn loss_scale(&self) -> f32 {
        self.loss_scale
    }

    /// The keys and values of layer `layer` (the model's numbering) in this microbatch.
    ///
    /// # Panics
    /// The layer is not one of the stage's.
    pub fn kv(&mut self, layer: usize) -> &mut KvCache {
        &mut self.caches[layer - self.first_layer]
    }
}

/// A part of a model that runs on one rank.
///
/// A stage is run on the meta device once, to plan its memory; operations of this project do the
/// right thing there by themselves.
pub trait Stage {
    /// Runs the stage's layers on one slice.
    ///
    /// # Errors
    /// Whatever the computation meets.
    fn forward(&self, input: StageInput, cx: &mut SliceContext<'_>) -> Result<StageOutput>;

    /// The stage's parameters, each once.
    fn parameters(&self) -> Vec<Parameter>;

    /// Elements per token, and their dtype, between stages.
    fn hidden(&self) -> (usize, DType);

    /// A parameter that the first and the last stage share (a tied embedding), if there is one.
    /// Their gradients are added at the end of a step.
    fn tied(&self) -> Option<Parameter> {
        None
    }

    /// The stage's part of a vocabulary that all ranks share, if its [spec](StageSpec::vocabulary)
    /// asks for one. Its parameters are among [`Stage::parameters`].
    fn vocabulary(&self) -> Option<VocabularyPart> {
        None
    }
}
