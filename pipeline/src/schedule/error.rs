use super::{Action, Dimensions, ScheduleKind, Violation};

/// What can be wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A number that has to be at least one is zero.
    #[error("a schedule needs at least one of its {what}; set {setting} to 1 or more")]
    Zero {
        /// Which number.
        what: &'static str,
        /// The setting it comes from.
        setting: &'static str,
    },
    /// More units than can be counted.
    #[error(
        "{} microbatches x {} slices x {} chunks on {} ranks are more than {} units; lower one of them",
        dimensions.microbatches, dimensions.slices, dimensions.chunks, dimensions.ranks, Dimensions::MAX_UNITS
    )]
    TooLarge {
        /// The numbers.
        dimensions: Dimensions,
    },
    /// A schedule of whole microbatches was asked to slice.
    #[error(
        "schedule `{kind}` runs whole sequences, not {slices} slices; set parallel.slices = 1, or parallel.schedule = \"slimpipe\""
    )]
    SlicesUnsupported {
        /// The schedule.
        kind: ScheduleKind,
        /// Slices asked for.
        slices: u32,
    },
    /// A schedule of one chunk per rank was asked for more.
    #[error(
        "schedule `{kind}` has one chunk of layers per rank, not {chunks}; set parallel.chunks = 1, or parallel.schedule = \"slimpipe\" or \"interleaved-1f1b\""
    )]
    ChunksUnsupported {
        /// The schedule.
        kind: ScheduleKind,
        /// Chunks asked for.
        chunks: u32,
    },
    /// Interleaved SlimPipe with fewer slices than ranks.
    #[error(
        "slimpipe with {chunks} chunks per rank needs at least as many slices as ranks, but there are {slices} slices for {ranks} ranks; set parallel.slices = {ranks} or more, or parallel.chunks = 1"
    )]
    TooFewSlices {
        /// Slices asked for.
        slices: u32,
        /// Pipeline ranks.
        ranks: u32,
        /// Chunks per rank.
        chunks: u32,
    },
    /// Interleaved 1F1B whose microbatches do not come in groups of p.
    #[error(
        "interleaved-1f1b runs microbatches in groups of {ranks} (the ranks), and {microbatches} microbatches do not divide; set train.microbatches to {hint}, or parallel.schedule = \"slimpipe\""
    )]
    UnequalGroups {
        /// Microbatches asked for.
        microbatches: u32,
        /// Pipeline ranks.
        ranks: u32,
        /// Which numbers would do.
        hint: String,
    },
    /// A schedule that does not exist.
    #[error(
        "there is no schedule `{name}`{}; the schedules are slimpipe, gpipe, 1f1b and interleaved-1f1b",
        suggestion.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
    )]
    UnknownKind {
        /// The name asked for.
        name: String,
        /// The nearest name there is.
        suggestion: Option<&'static str>,
    },
    /// A placement table that is not a permutation.
    #[error("placement: {what}; every chunk of every rank holds exactly one stage")]
    Placement {
        /// What is wrong.
        what: String,
    },
    /// A textual dump that cannot be read.
    #[error("schedule text, line {line}, column {column}: {what}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        what: String,
    },
    /// A program that breaks a rule of pipelines.
    #[error("rank {rank}, action {index}{}: {violation}", action.map(|action| format!(" ({action})")).unwrap_or_default())]
    Invalid {
        /// The rank whose program it is.
        rank: u32,
        /// The action's index in that program; its length where something is missing at the end.
        index: usize,
        /// The action.
        action: Option<Action>,
        /// The rule it breaks.
        violation: Violation,
    },
}

/// Shorthand for a result of the schedule layer.
pub type Result<T, E = ScheduleError> = std::result::Result<T, E>;
