//! Names of things: units, phases, regions.

use std::fmt;

/// A unit: what a rank runs in one forward and one backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId {
    /// Microbatch within the step.
    pub microbatch: u32,
    /// Slice within the sequence.
    pub slice: u32,
    /// Model chunk on this rank.
    pub chunk: u32,
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mb{}/slice{}/chunk{}", self.microbatch, self.slice, self.chunk)
    }
}

/// The part of a unit's life an allocation is made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The unit's forward.
    Forward,
    /// The unit's backward, or the part of it that gives the gradient of its input.
    Backward,
    /// The rest of a backward in two parts: gradients of weights.
    Weight,
}

impl Phase {
    /// How many there are.
    pub(crate) const COUNT: usize = 3;
}

/// Every byte belongs to one of these, by who owns it and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Region {
    /// Parameters, gradients, optimizer state.
    Persistent = 0,
    /// What a unit's forward saves for its backward: one slot per unit in flight.
    Slot = 1,
    /// Keys and values of a unit, read by later slices.
    Kv = 2,
    /// Accumulators of key and value gradients.
    KvGrad = 3,
    /// Temporaries of one forward or backward.
    Transient = 4,
    /// Messages on their way.
    Comm = 5,
    /// Everything that was not planned.
    Overflow = 6,
}

impl Region {
    /// How many regions there are.
    pub const COUNT: usize = 7;

    /// All regions, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Persistent,
        Self::Slot,
        Self::Kv,
        Self::KvGrad,
        Self::Transient,
        Self::Comm,
        Self::Overflow,
    ];

    /// The region's number, an index into [`Region::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether callers may ask for the region: what lies there is neither saved by a unit nor one of
    /// its temporaries, so that no plan places it.
    pub(crate) fn is_for_callers(self) -> bool {
        matches!(self, Self::Persistent | Self::KvGrad | Self::Comm)
    }

    /// The name in tables and traces.
    pub fn name(self) -> &'static str {
        ["persistent", "slots", "kv", "kv gradients", "transient", "comm", "overflow"][self.index()]
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
