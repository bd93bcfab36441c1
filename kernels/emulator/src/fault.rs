//! What a kernel did wrong, and where.

use std::fmt;

use crate::MemoryError;

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The launch itself is wrong: sizes, parameters, shared memory.
    Launch,
    /// An access outside live memory.
    OutOfBounds,
    /// An access to memory that was freed.
    Freed,
    /// An address that is no multiple of what is accessed.
    Misaligned,
    /// A barrier used with wrong counts, or left with threads waiting.
    Barrier,
    /// An mbarrier that was not initialised, or got too many arrivals or bytes.
    Mbarrier,
    /// Nothing can go on.
    Deadlock,
    /// Threads run without an end and without effect.
    Livelock,
    /// Lanes of a warp that must come together did not.
    Divergence,
    /// Memory that asynchronous work still reads or writes was touched.
    Race,
    /// The async proxy reads what the generic proxy wrote, without a fence between.
    MissingFence,
    /// Registers of a matrix product that is under way were touched.
    Register,
    /// A descriptor or tensor map that does not fit its use.
    Descriptor,
    /// The kernel executed `trap`.
    Trap,
    /// An operand that the instruction does not allow.
    Operand,
}

/// A fault, as it is raised: whoever knows more adds where.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub kind: FaultKind,
    pub what: String,
    pub lane: Option<u32>,
}

impl Trouble {
    pub(crate) fn new(kind: FaultKind, what: impl Into<String>) -> Box<Self> {
        Box::new(Self { kind, what: what.into(), lane: None })
    }

    pub(crate) fn at_lane(mut self: Box<Self>, lane: usize) -> Box<Self> {
        self.lane.get_or_insert(lane as u32);
        self
    }
}

impl From<MemoryError> for Box<Trouble> {
    fn from(error: MemoryError) -> Self {
        let kind = match error {
            MemoryError::Freed { .. } => FaultKind::Freed,
            _ => FaultKind::OutOfBounds,
        };
        Trouble::new(kind, format!("global memory: {error}"))
    }
}

/// What went wrong in a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of the fault.
    pub kind: FaultKind,
    /// What happened, with addresses and counts.
    pub what: String,
    /// The kernel's name.
    pub kernel: String,
    /// The block, if one is to blame.
    pub block: Option<[u32; 3]>,
    /// The warp of the block, if one is to blame.
    pub warp: Option<u32>,
    /// The thread of the block, if one is to blame.
    pub thread: Option<[u32; 3]>,
    /// Line of the PTX text, counted from 1; zero if no instruction is to blame.
    pub line: u32,
    /// The text of that line.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kernel, self.what)?;
        if let Some([x, y, z]) = self.block {
            write!(f, "\n  block ({x}, {y}, {z})")?;
        }
        if let Some(warp) = self.warp {
            write!(f, ", warp {warp}")?;
        }
        if let Some([x, y, z]) = self.thread {
            write!(f, ", thread ({x}, {y}, {z})")?;
        }
        if self.line > 0 {
            write!(f, "\n  line {}: {}", self.line, self.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
