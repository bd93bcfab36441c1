use super::Action;

/// What is wrong with a schedule or a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A name nobody knows.
    #[error("unknown schedule `{name}`{hint}; there are {known}")]
    UnknownName {
        /// The name as given.
        name: String,
        /// What was probably meant.
        hint: String,
        /// The names that are known.
        known: String,
    },
    /// A count of zero, or one beyond reason.
    #[error("{what} is {count}: it must be at least 1 and at most {largest}")]
    OutOfRange {
        /// The setting.
        what: &'static str,
        /// Its value.
        count: u32,
        /// The largest value there is.
        largest: u32,
    },
    /// Slices for a schedule of whole microbatches.
    #[error(
        "schedule {kind} runs whole microbatches: set parallel.slices to 1, or parallel.schedule to slimpipe, seq1f1b or terapipe for {slices} slices"
    )]
    Unsliced {
        /// The schedule.
        kind: &'static str,
        /// Slices asked for.
        slices: u32,
    },
    /// Chunks for a schedule without them.
    #[error(
        "schedule {kind} has one chunk per rank: set parallel.chunks to 1, or parallel.schedule to slimpipe or interleaved-1f1b for {chunks} chunks"
    )]
    Unchunked {
        /// The schedule.
        kind: &'static str,
        /// Chunks asked for.
        chunks: u32,
    },
    /// Another number of chunks than a V has.
    #[error(
        "schedule {kind} lays two chunks per rank in a V: set parallel.chunks to 2 instead of {chunks}"
    )]
    NotTwoChunks {
        /// The schedule.
        kind: &'static str,
        /// Chunks asked for.
        chunks: u32,
    },
    /// Too few slices for chunks.
    #[error(
        "slimpipe with {chunks} chunks needs at least as many slices as ranks: {slices} slices for {ranks} ranks; raise parallel.slices to {ranks} or set parallel.chunks to 1"
    )]
    TooFewSlices {
        /// Chunks per rank.
        chunks: u32,
        /// Slices.
        slices: u32,
        /// Ranks.
        ranks: u32,
    },
    /// Microbatches that interleaving cannot group.
    #[error(
        "interleaved-1f1b needs train.microbatches to be a multiple of parallel.pipeline: {microbatches} microbatches for {ranks} ranks"
    )]
    UnevenMicrobatches {
        /// Microbatches.
        microbatches: u32,
        /// Ranks.
        ranks: u32,
    },
    /// A way of exchanging attention that nobody knows.
    #[error("unknown exchange `{name}`; there are {known}")]
    UnknownExchange {
        /// The name as given.
        name: String,
        /// The names that are known.
        known: String,
    },
    /// Exchange for a schedule whose ranks are not in lock step.
    #[error(
        "attention is exchanged between ranks in lock step, which schedule {kind} does not keep: set parallel.exchange to off, or use the slimpipe schedule"
    )]
    ExchangeKind {
        /// The schedule.
        kind: &'static str,
    },
    /// A schedule that exists on paper only.
    #[error("{kind} is verified and simulated only; ranks run {executed}")]
    NotExecuted {
        /// The schedule.
        kind: &'static str,
        /// Those that ranks run.
        executed: String,
    },
    /// Too few slices for exchange.
    #[error(
        "attention exchange needs at least as many slices as ranks: {slices} slices for {ranks} ranks; raise parallel.slices to {ranks} or set parallel.exchange to off"
    )]
    ExchangeSlices {
        /// Slices.
        slices: u32,
        /// Ranks.
        ranks: u32,
    },
    /// A shared vocabulary for a schedule whose ranks are not in lock step.
    #[error(
        "ranks share the vocabulary in lock step, which schedule {kind} does not keep: set parallel.vocabulary to false, or parallel.schedule to slimpipe, interleaved-1f1b, gpipe or terapipe"
    )]
    VocabularyKind {
        /// The schedule.
        kind: &'static str,
    },
    /// A sequence that cannot be cut into equal slices.
    #[error(
        "a sequence of {seq_len} tokens does not divide into {slices} equal slices; set train.seq_len to {lengths}, or parallel.slices to a divisor of {seq_len}"
    )]
    UnequalSlices {
        /// Tokens in a sequence.
        seq_len: usize,
        /// Slices asked for.
        slices: u32,
        /// Lengths that would divide.
        lengths: String,
    },
    /// More slices than tokens.
    #[error(
        "a sequence of {seq_len} tokens has no {slices} slices of a token or more; raise train.seq_len or lower parallel.slices"
    )]
    TooManySlices {
        /// Tokens in a sequence.
        seq_len: usize,
        /// Slices asked for.
        slices: u32,
    },
    /// An action that breaks a rule.
    #[error("rank {rank}, action {index} ({action}): {what}")]
    Broken {
        /// The rank.
        rank: u32,
        /// Position in its program, from 0.
        index: usize,
        /// The action.
        action: Action,
        /// The rule.
        what: String,
    },
    /// A program that ends too early.
    #[error("rank {rank}: the program ends after {actions} actions without an optimizer step")]
    Unfinished {
        /// The rank.
        rank: u32,
        /// Actions in its program.
        actions: usize,
    },
    /// More or fewer programs than ranks.
    #[error("{programs} programs for {ranks} ranks")]
    WrongRanks {
        /// Programs given.
        programs: usize,
        /// Ranks of the schedule.
        ranks: u32,
    },
    /// Programs that wait for each other.
    #[error("deadlock with channels of {capacity} messages: {waiting}")]
    Deadlock {
        /// Messages a channel holds.
        capacity: usize,
        /// Who waits at which action.
        waiting: String,
    },
    /// Text that is not a program.
    #[error("line {line}, column {column}: {what}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
}
