use std::fmt;

use crate::schedule::Unit;

/// What a message is: the receiver asks for it by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The output of a unit, named by the unit that made it.
    Activation(Unit),
    /// The gradient of a unit's input, named by the unit that made it.
    Gradient(Unit),
    /// A tensor of attention that one rank computes for another, in the `layer`-th layer that the
    /// unit's pass runs.
    Attention {
        /// The owner's unit.
        unit: Unit,
        /// Layers of the unit that came before.
        layer: u32,
        /// Which tensor.
        tensor: AttentionTensor,
    },
    /// A block of a larger transfer, by number.
    Block(u64),
}

/// What ranks exchange that share attention. Keys and values are named by their slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttentionTensor {
    /// Keys of a slice, or half of them.
    Keys(u32),
    /// Its values.
    Values(u32),
    /// Queries.
    Queries,
    /// The final output.
    Output,
    /// Its log-sum-exp.
    LogSumExp,
    /// Its gradient.
    OutputGradient,
    /// The output over the helper's keys.
    PartialOutput,
    /// Its log-sum-exp.
    PartialLogSumExp,
    /// What the helper's keys add to the gradient of the queries.
    QueryGradient,
    /// What the queries add to the gradient of a slice's keys.
    KeyGradient(u32),
    /// And to that of its values.
    ValueGradient(u32),
}

/// A queue from one rank to another. Each keeps its own order and has its own room: a gradient never
/// waits behind an activation that its receiver is not ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Of activations.
    Activations,
    /// Of gradients.
    Gradients,
    /// Of keys and values that others attend to.
    Keys,
    /// Of queries they do it with.
    Queries,
    /// Of what comes of it.
    Partials,
    /// Of blocks.
    Blocks,
}

impl Lane {
    /// Whether a sender waits while many messages are unread. In attention that is shared nobody does:
    /// a layer's messages are all read before the next layer begins, and waiting for room could
    /// close a cycle.
    pub fn is_bounded(self) -> bool {
        !matches!(self, Self::Keys | Self::Queries | Self::Partials)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Activations => "activations",
            Self::Gradients => "gradients",
            Self::Keys => "keys and values",
            Self::Queries => "queries",
            Self::Partials => "partial results",
            Self::Blocks => "blocks",
        })
    }
}

impl AttentionTensor {
    fn lane(self) -> Lane {
        match self {
            Self::Keys(_) | Self::Values(_) => Lane::Keys,
            Self::Queries | Self::Output | Self::LogSumExp | Self::OutputGradient => Lane::Queries,
            Self::PartialOutput
            | Self::PartialLogSumExp
            | Self::QueryGradient
            | Self::KeyGradient(_)
            | Self::ValueGradient(_) => Lane::Partials,
        }
    }
}

impl Tag {
    /// The queue the message travels in.
    pub fn lane(self) -> Lane {
        match self {
            Self::Activation(_) => Lane::Activations,
            Self::Gradient(_) => Lane::Gradients,
            Self::Attention { tensor, .. } => tensor.lane(),
            Self::Block(_) => Lane::Blocks,
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activation(unit) => write!(f, "activation {unit}"),
            Self::Gradient(unit) => write!(f, "gradient {unit}"),
            Self::Attention { unit, layer, tensor } => {
                write!(f, "{tensor} of {unit}, layer {layer}")
            }
            Self::Block(number) => write!(f, "block {number}"),
        }
    }
}

impl fmt::Display for AttentionTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(slice) => write!(f, "keys of slice {slice}"),
            Self::Values(slice) => write!(f, "values of slice {slice}"),
            Self::Queries => write!(f, "queries"),
            Self::Output => write!(f, "output"),
            Self::LogSumExp => write!(f, "log-sum-exp"),
            Self::OutputGradient => write!(f, "output gradient"),
            Self::PartialOutput => write!(f, "partial output"),
            Self::PartialLogSumExp => write!(f, "partial log-sum-exp"),
            Self::QueryGradient => write!(f, "query gradient"),
            Self::KeyGradient(slice) => write!(f, "key gradient of slice {slice}"),
            Self::ValueGradient(slice) => write!(f, "value gradient of slice {slice}"),
        }
    }
}
