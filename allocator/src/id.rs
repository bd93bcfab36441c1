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

/// The half of a unit's life an allocation is made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The unit's forward.
    Forward,
    /// The unit's backward.
    Backward,
}

/// Every byte belongs to one of these, by who owns it and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Region {
    /// Parameters, gradients, optimizer state.
    Persistent = 0,
    /// What a unit's forward saves inside layers; one equal slot per unit in flight.
    Slot = 1,
    /// What a unit's forward saves outside layers (a loss head); one slot per unit of that chunk.
    Extra = 2,
    /// Keys and values of a unit, read by later slices.
    Kv = 3,
    /// Accumulators of key and value gradients.
    KvGrad = 4,
    /// Temporaries of one forward or backward.
    Transient = 5,
    /// Messages on their way.
    Comm = 6,
    /// Everything that was not planned.
    Overflow = 7,
}

impl Region {
    /// All regions, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Persistent,
        Self::Slot,
        Self::Extra,
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

    /// The name in tables and traces.
    pub fn name(self) -> &'static str {
        ["persistent", "slots", "extra", "kv", "kv gradients", "transient", "comm", "overflow"]
            [self.index()]
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
