use std::fmt;

use crate::schedule::Unit;

/// What a message is: the receiver asks for it by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The output of a unit, named by the unit that made it.
    Activation(Unit),
    /// The gradient of a unit's input, named by the unit that made it.
    Gradient(Unit),
    /// A block of a larger transfer, by number.
    Block(u64),
}

/// A queue from one rank to another. Each keeps its own order and has its own room: a gradient never
/// waits behind an activation that its receiver is not ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Of activations.
    Activations,
    /// Of gradients.
    Gradients,
    /// Of blocks.
    Blocks,
}

impl Tag {
    /// The queue the message travels in.
    pub fn lane(self) -> Lane {
        match self {
            Self::Activation(_) => Lane::Activations,
            Self::Gradient(_) => Lane::Gradients,
            Self::Block(_) => Lane::Blocks,
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activation(unit) => write!(f, "activation {unit}"),
            Self::Gradient(unit) => write!(f, "gradient {unit}"),
            Self::Block(number) => write!(f, "block {number}"),
        }
    }
}
