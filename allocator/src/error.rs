use std::fmt;
use std::io::ErrorKind;

use crate::{Bytes, Owner, Region, UnitId};

/// What can go wrong with memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// No memory left, in the machine or within the rank's limit.
    #[error("{0}")]
    OutOfMemory(Box<OutOfMemory>),
    /// A tensor was used after its unit had given its memory back.
    #[error(
        "{op}: the tensor belongs to unit {unit}, which is closed; copy what must outlive a unit (a loss, a statistic) before the unit ends"
    )]
    EscapedUnit {
        /// The operation that used it.
        op: &'static str,
        /// The closed unit.
        unit: UnitId,
    },
    /// A tensor was used while it was in the second memory.
    #[error(
        "{op}: the tensor belongs to unit {unit}, whose activations are in the second memory until its backward; prefetch and settle the unit first"
    )]
    Away {
        /// The operation that used it.
        op: &'static str,
        /// The unit.
        unit: UnitId,
    },
    /// The thread that copies to and from the second memory did not start.
    #[error("cannot start the thread that moves activations (memory.offload): {0}")]
    Thread(std::io::Error),
    /// The second memory has no room, or its bytes cannot be moved.
    #[error(
        "cannot move activations of unit {unit} between memory and {place} (memory.offload): {source}{}; or lower memory.offload",
        remedy(source)
    )]
    SecondMemory {
        /// What the second memory is.
        place: String,
        /// The unit.
        unit: UnitId,
        /// The cause.
        source: std::io::Error,
    },
    /// Something was allocated in the phase of a unit that had been closed.
    #[error("{op}: unit {unit} is closed; end its phases before the unit itself")]
    UnitClosed {
        /// The operation that asked.
        op: &'static str,
        /// The closed unit.
        unit: UnitId,
    },
    /// An allocation that the plan does not know, in strict mode.
    #[error(
        "{op}: {bytes} in {}{} are not what the plan recorded; a model whose shapes depend on data cannot run with memory.strict",
        unit.map_or("a task outside units".to_owned(), |unit| format!("unit {unit}")),
        layer.map_or(String::new(), |layer| format!(", layer {layer},"))
    )]
    NotPlanned {
        /// The operation.
        op: &'static str,
        /// Bytes asked for.
        bytes: Bytes,
        /// The unit, if in one.
        unit: Option<UnitId>,
        /// The layer, if in one.
        layer: Option<u32>,
    },
    /// The unit is already open.
    #[error("unit {0} is already open: its backward has not ended")]
    UnitOpen(UnitId),
    /// Units are open while plans change.
    #[error("a plan can only be installed while no unit is open ({open} are)")]
    PlanInUse {
        /// Open units.
        open: u64,
    },
    /// The event log could not be written.
    #[error("cannot write the memory trace {path}: {source}{}", remedy(source))]
    Trace {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; free space there, or write to another disk"
        }
        _ => "",
    }
}

/// The state of a rank's memory when an allocation failed.
#[derive(Debug)]
pub struct OutOfMemory {
    /// The rank.
    pub rank: u32,
    /// The operation that asked.
    pub op: &'static str,
    /// Bytes it asked for.
    pub requested: Bytes,
    /// Live bytes.
    pub active: Bytes,
    /// Of these, in each region that has some, most first.
    pub regions: Vec<(Region, Bytes)>,
    /// Committed bytes.
    pub reserved: Bytes,
    /// The rank's budget, if it has one.
    pub limit: Option<Bytes>,
    /// The largest free block among the committed bytes.
    pub largest_free: Bytes,
    /// Why, beyond the numbers.
    pub cause: String,
    /// Who holds most, largest first.
    pub owners: Vec<Owner>,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "out of memory on rank {}: {} asked for {} ({}); active {}",
            self.rank, self.op, self.requested, self.cause, self.active,
        )?;
        for (index, (region, bytes)) in self.regions.iter().enumerate() {
            write!(f, "{}{region} {bytes}", if index == 0 { " (" } else { ", " })?;
        }
        let close = if self.regions.is_empty() { "" } else { ")" };
        let Self { reserved, largest_free, .. } = self;
        write!(f, "{close}, reserved {reserved}, largest free block {largest_free}")?;
        match self.limit {
            Some(limit) => write!(f, ", limit {limit} (memory.limit)")?,
            None => write!(f, ", no limit set")?,
        }
        if !self.owners.is_empty() {
            write!(f, "; the largest owners are")?;
        }
        for owner in &self.owners {
            write!(f, "\n  {owner}")?;
        }
        let raise = if self.limit.is_some() { "raise memory.limit, " } else { "" };
        // Where nothing else lives yet, slices and contexts change nothing.
        let advice = match self.regions.iter().all(|(region, _)| *region == Region::Persistent) {
            true => "raise parallel.pipeline, or train a smaller model",
            false => {
                "lower train.seq_len, raise parallel.slices or parallel.pipeline, or set memory.recompute or memory.offload"
            }
        };
        write!(f, "\n{raise}{advice}")
    }
}
