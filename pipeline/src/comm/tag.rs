//! What a message is.

use std::fmt;

use crate::schedule::Unit;

/// The name of a message: a stage's output or a gradient, and the unit of the rank that sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    is_gradient: bool,
    unit: Unit,
}

impl Tag {
    /// The output of `unit`, or the gradient of its input.
    pub fn new(is_gradient: bool, unit: Unit) -> Self {
        Self { is_gradient, unit }
    }

    /// The output of `unit`.
    pub fn activation(unit: Unit) -> Self {
        Self::new(false, unit)
    }

    /// The gradient of the input of `unit`.
    pub fn gradient(unit: Unit) -> Self {
        Self::new(true, unit)
    }

    /// Whether the message is a gradient; activations and gradients travel in channels of their
    /// own.
    pub fn is_gradient(self) -> bool {
        self.is_gradient
    }

    /// The unit that sends it.
    pub fn unit(self) -> Unit {
        self.unit
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_gradient { "input gradient" } else { "output" };
        write!(f, "{what} of {}", self.unit)
    }
}
