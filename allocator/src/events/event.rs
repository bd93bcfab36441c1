//! What a log tells, as readers see it.

use crate::{Phase, Region, UnitId};

/// A logged event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Nanoseconds since the log began; never less than the event's before.
    pub time: u64,
    /// What happened.
    pub what: What,
}

/// What a log says happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A block was placed.
    Alloc(Block),
    /// A block was freed, by its own handle or with its unit.
    Free {
        /// The region.
        region: Region,
        /// Offset in the region, in bytes.
        offset: u64,
        /// Aligned bytes.
        bytes: u64,
    },
    /// A unit was opened.
    UnitOpened(UnitId),
    /// A unit was closed; what it still held was freed just before.
    UnitClosed(UnitId),
    /// A unit's forward or backward begins.
    Phase(UnitId, Phase),
    /// It ends.
    PhaseEnded(UnitId, Phase),
    /// A unit's blocks are in the second memory; they are freed just after.
    Offloaded(UnitId),
    /// A unit's blocks come back; they are placed just after.
    Restored(UnitId),
    /// A region has this many committed bytes now.
    Committed {
        /// The region.
        region: Region,
        /// Its committed bytes.
        bytes: u64,
    },
    /// There was no memory for a block or a unit's slot.
    Refused {
        /// The bytes asked for.
        bytes: u64,
        /// Operation and call site.
        name: NameId,
    },
    /// What a plan gives each unit of a chunk and slice in slots or K/V, from its opening to its end;
    /// slices beyond follow the last. For [`Region::Transient`]: the frame that all share.
    Planned {
        /// The chunk.
        chunk: u32,
        /// The slice.
        slice: u32,
        /// The region.
        region: Region,
        /// Bytes.
        bytes: u64,
    },
    /// A training step begins; the memory's peaks count anew.
    Step(u64),
}

/// A block as it was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The region.
    pub region: Region,
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// Aligned bytes.
    pub bytes: u64,
    /// The bytes asked for; a request for nothing counts as one byte.
    pub requested: u64,
    /// The unit that made it, if one did.
    pub unit: Option<UnitId>,
    /// The layer, if it was made in one.
    pub layer: Option<u32>,
    /// Operation and call site.
    pub name: NameId,
    /// Whether it was made in a unit or a task whose plan did not foresee it: an overflow hit.
    pub unplanned: bool,
}

/// The number of an operation at a call site, counted from 0 in each log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub u32);

impl NameId {
    /// The number, an index into a log's names.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An operation at a call site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    text: Box<str>,
    op: u16,
}

impl Name {
    /// `text` is the operation, of `op` bytes, a space, and the call site; `None` if it is not.
    pub(super) fn new(text: &str, op: u16) -> Option<Self> {
        let (_, rest) = text.split_at_checked(usize::from(op))?;
        (rest.is_empty() || rest.starts_with(' ')).then(|| Self { text: text.into(), op })
    }

    /// The operation, such as `matmul`.
    pub fn op(&self) -> &str {
        &self.text[..usize::from(self.op)]
    }

    /// The Rust code that asked, as `file:line`; empty where the operation's own name was too long.
    pub fn site(&self) -> &str {
        self.text.get(usize::from(self.op) + 1..).unwrap_or("")
    }

    /// The call site's file and line.
    pub fn location(&self) -> (&str, u32) {
        let site = self.site();
        let parsed =
            site.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
        parsed.unwrap_or((site, 0))
    }
}
