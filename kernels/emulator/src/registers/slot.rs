//! Where an operand lies.

/// How wide a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Up to 32 bits per lane; narrower values are zero-extended.
    Word,
    /// 64 bits per lane.
    Double,
    /// One bit per lane.
    Predicate,
}

/// A register or a constant: its class and its place in that class's array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot(u32);

const CONSTANT: u32 = 1 << 29;
const INDEX: u32 = CONSTANT - 1;

impl Slot {
    /// No operand, or a destination nobody wants.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn register(class: Class, index: usize) -> Self {
        assert!(index < INDEX as usize, "a kernel has fewer registers");
        Self((class as u32) << 30 | index as u32)
    }

    pub(crate) fn constant(class: Class, index: usize) -> Self {
        Self(Self::register(class, index).0 | CONSTANT)
    }

    pub(crate) fn class(self) -> Class {
        match self.0 >> 30 {
            0 => Class::Word,
            1 => Class::Double,
            _ => Class::Predicate,
        }
    }

    pub(crate) fn is_constant(self) -> bool {
        self.0 & CONSTANT != 0
    }

    pub(crate) fn is_some(self) -> bool {
        self != Self::NONE
    }

    pub(crate) fn index(self) -> usize {
        (self.0 & INDEX) as usize
    }
}
