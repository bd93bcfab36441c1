use slimpipe_allocator::AllocError;

use crate::comm::CommError;
use crate::schedule::{ScheduleError, Unit};

/// What can go wrong while a program runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation of a stage failed.
    #[error(transparent)]
    Autograd(#[from] slimpipe_autograd::Error),
    /// A raw tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] slimpipe_runtime::Error),
    /// Out of memory, or a tensor of a closed unit.
    #[error(transparent)]
    Memory(#[from] AllocError),
    /// Another rank failed, or a message did not fit.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// A schedule that cannot be built or run.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A mistake a stage reports.
    #[error("stage: {0}")]
    Stage(String),
    /// Another number of slices than the schedule has.
    #[error("the sequences are cut into {got} slices, the schedule has {expected}")]
    WrongSlices {
        /// Slices of a sequence.
        got: u32,
        /// Slices of the schedule.
        expected: u32,
    },
    /// More stages than layers.
    #[error(
        "{stages} stages (ranks x chunks) for {layers} layers: every stage needs a layer; lower parallel.pipeline or parallel.chunks"
    )]
    TooManyStages {
        /// Ranks times chunks.
        stages: u32,
        /// The model's layers.
        layers: usize,
    },
    /// A communicator of another size than the schedule.
    #[error(
        "the schedule has {expected} ranks, the communicator {got}; launch as many ranks as the schedule has"
    )]
    WrongGroup {
        /// Ranks of the communicator.
        got: u32,
        /// Ranks of the schedule.
        expected: u32,
    },
    /// A batch with another number of sequences than the schedule has microbatches.
    #[error("the batch has {got} sequences, the schedule {expected} microbatches")]
    BatchSize {
        /// Sequences in the batch.
        got: usize,
        /// Microbatches of the schedule.
        expected: usize,
    },
    /// A sequence of another length than the pipeline was built for.
    #[error(
        "microbatch {microbatch} has {tokens} tokens and {labels} labels, the pipeline takes {expected}"
    )]
    SequenceLength {
        /// Which microbatch.
        microbatch: usize,
        /// Its tokens.
        tokens: usize,
        /// Its labels.
        labels: usize,
        /// Tokens in a sequence.
        expected: usize,
    },
    /// A stage that is not the last asked for labels.
    #[error(
        "labels were asked for by a stage that is not the last; only the last stage computes the loss"
    )]
    NoLabels,
    /// Tokens for a stage that has no embedding, or hidden states for one that needs tokens.
    #[error(
        "the stage got tokens but has no embedding: StageSpec::is_first says which stage reads tokens"
    )]
    UnexpectedInput,
    /// A stage gave a loss where hidden states were due, or the reverse.
    #[error("stage {stage} gave {got} where {expected} was due")]
    WrongOutput {
        /// The stage.
        stage: u32,
        /// What it gave.
        got: &'static str,
        /// What was due.
        expected: &'static str,
    },
    /// A stage that does not attend once in each of its layers cannot exchange attention.
    #[error(
        "rank {rank}: the stage ran attention {got} times in {expected} layers; attention is exchanged once per layer: set parallel.exchange to off"
    )]
    AttentionCalls {
        /// The rank.
        rank: u32,
        /// How often it ran attention, at least.
        got: usize,
        /// Its layers.
        expected: usize,
    },
    /// Stages of different numbers of layers cannot exchange attention.
    #[error(
        "attention is exchanged layer by layer, which needs the same number of layers on every stage: {layers} layers do not divide into {stages} stages; set parallel.exchange to off, or choose parallel.pipeline and parallel.chunks whose product divides {layers}"
    )]
    UnevenExchange {
        /// The model's layers.
        layers: usize,
        /// Ranks times chunks.
        stages: u32,
    },
    /// Slices too short to be halved.
    #[error(
        "attention is exchanged in halves of slices, which have {slice_len} tokens: lower parallel.slices or set parallel.exchange to off"
    )]
    ShortExchange {
        /// Tokens in a slice.
        slice_len: usize,
    },
    /// Fewer tokens than ranks to share them.
    #[error(
        "a vocabulary of {tokens} tokens cannot be shared by {ranks} ranks; set parallel.vocabulary to false"
    )]
    SmallVocabulary {
        /// Tokens there are.
        tokens: usize,
        /// Ranks.
        ranks: u32,
    },
    /// A model that cannot share its vocabulary.
    #[error(
        "the schedule has all ranks share the vocabulary, but no stage holds a part of it: implement Stage::vocabulary, or use a schedule without"
    )]
    NoVocabularyPart,
    /// A part of a vocabulary of another shape or dtype than it is dealt with.
    #[error(
        "parameter {name} has shape {got:?}, the rank's part of the vocabulary takes {expected:?} in the hidden states' dtype"
    )]
    WrongVocabularyPart {
        /// The parameter.
        name: String,
        /// Its shape.
        got: Vec<usize>,
        /// The part's.
        expected: Vec<usize>,
    },
    /// A token outside the vocabulary.
    #[error(
        "token {token} in a vocabulary of {tokens}: was the text made into tokens by another tokenizer?"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens there are.
        tokens: usize,
    },
    /// A program that departs from the order in which units can run.
    #[error("rank {rank}: the program runs {what} of {unit:?} out of order")]
    OutOfOrder {
        /// The rank.
        rank: u32,
        /// The action.
        what: &'static str,
        /// The unit.
        unit: Unit,
    },
}

/// Shorthand for a result of the executor.
pub type Result<T, E = Error> = std::result::Result<T, E>;
