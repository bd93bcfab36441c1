use std::fmt;

use super::exchange::{Part, Pass};

/// What a rank runs in one forward and one backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// Microbatch within the step.
    pub microbatch: u32,
    /// Slice within the sequence.
    pub slice: u32,
    /// Model chunk on the rank.
    pub chunk: u32,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}:{}", self.microbatch, self.slice, self.chunk)
    }
}

/// Weights of a rank whose gradients are final at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// Those of a chunk.
    Chunk(u32),
    /// The rank's part of the vocabulary.
    Vocabulary,
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk(chunk) => write!(f, "{chunk}"),
            Self::Vocabulary => write!(f, "v"),
        }
    }
}

/// One step of a rank's program. Units are the rank's own; a message between stages is named by the
/// unit on the side of the rank that acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Receive the unit's input.
    RecvActivation {
        /// The unit that needs it.
        unit: Unit,
        /// The rank it comes from.
        from: u32,
    },
    /// Run the unit's forward.
    Forward(Unit),
    /// Send the unit's output.
    SendActivation {
        /// The unit that made it.
        unit: Unit,
        /// The rank it goes to.
        to: u32,
    },
    /// Receive the gradient of the unit's output.
    RecvGradient {
        /// The unit that needs it.
        unit: Unit,
        /// The rank it comes from.
        from: u32,
    },
    /// Run the unit's backward, whole: its memory ends with it.
    Backward(Unit),
    /// Run the part of the unit's backward that gives the gradient of its input; what the weights'
    /// gradients need is kept.
    BackwardInput(Unit),
    /// Run the rest of the unit's backward, the gradients of weights: its memory ends with it.
    BackwardWeight(Unit),
    /// Send the gradient of the unit's input.
    SendGradient {
        /// The unit that made it.
        unit: Unit,
        /// The rank it goes to.
        to: u32,
    },
    /// Let another rank attend to a part of the unit's prefix in each layer of the unit's `pass`,
    /// which comes next.
    Ship {
        /// The unit.
        unit: Unit,
        /// Which keys and values.
        part: Part,
        /// The helper.
        to: u32,
        /// The pass it is for.
        pass: Pass,
    },
    /// Attend for another rank, in each layer of the unit of `pass` or of the [`Action::Help`] that
    /// comes next.
    Attend {
        /// The other rank's unit.
        unit: Unit,
        /// Which of its keys and values.
        part: Part,
        /// The owner.
        from: u32,
        /// The pass it is for.
        pass: Pass,
    },
    /// Run what was to be attended for others, without a unit of one's own.
    Help(Pass),
    /// Look up the input of a unit of the first stage, every rank in its part of the vocabulary.
    VocabEmbed(Unit),
    /// Run the output layer and the loss on the output of a unit of the last stage, and give the
    /// gradient of that output, every rank with its part of the vocabulary.
    VocabHead(Unit),
    /// Add the gradient of the input of a unit of the first stage to that of the embedding, every
    /// rank in its part of the vocabulary.
    VocabEmbedBackward(Unit),
    /// Begin to add the gradients of these weights, whose last backward of the step has run, over the
    /// data ranks, each of which keeps its share of the sums. That goes on beside what follows, until
    /// the gradients are used.
    ReduceGradients(Weights),
    /// Add the gradients of a parameter that the first and the last stage share, if there is one.
    ReduceTied {
        /// The rank with the other copy.
        peer: u32,
    },
    /// All gradients are complete: clip and update.
    OptimizerStep,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecvActivation { unit, from } => write!(f, "ra{unit}<{from}"),
            Self::Forward(unit) => write!(f, "F{unit}"),
            Self::SendActivation { unit, to } => write!(f, "sa{unit}>{to}"),
            Self::RecvGradient { unit, from } => write!(f, "rg{unit}<{from}"),
            Self::Backward(unit) => write!(f, "B{unit}"),
            Self::BackwardInput(unit) => write!(f, "I{unit}"),
            Self::BackwardWeight(unit) => write!(f, "W{unit}"),
            Self::SendGradient { unit, to } => write!(f, "sg{unit}>{to}"),
            Self::Ship { unit, part, to, pass } => write!(f, "x{pass}{unit}/{part}>{to}"),
            Self::Attend { unit, part, from, pass } => write!(f, "x{pass}{unit}/{part}<{from}"),
            Self::Help(pass) => write!(f, "h{pass}"),
            Self::VocabEmbed(unit) => write!(f, "ve{unit}"),
            Self::VocabHead(unit) => write!(f, "vh{unit}"),
            Self::VocabEmbedBackward(unit) => write!(f, "vb{unit}"),
            Self::ReduceGradients(weights) => write!(f, "reduce:{weights}"),
            Self::ReduceTied { peer } => write!(f, "tied@{peer}"),
            Self::OptimizerStep => write!(f, "step"),
        }
    }
}
