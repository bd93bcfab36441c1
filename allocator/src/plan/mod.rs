//! Plans: where each allocation of a unit goes, recorded once and replayed without any search.
//!
//! A [`Recorder`] watches one forward and backward on the meta device. Every allocation is known by
//! (phase, layer, ordinal within the layer), so that one allocation too many in a layer disturbs
//! that layer only. What forward leaves alive is *saved*: it gets a cell of the unit's slot, which
//! the unit holds from its opening to its end. So is what the first part of a backward leaves for
//! the second: it takes over cells whose blocks are gone by then, or the unit takes more cells when
//! it comes to that. What dies earlier is *transient* and shares addresses with whatever is not alive
//! at that time.

mod pack;
mod record;
mod split;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use record::Record;
pub use record::{Recorder, RecorderPhase};
pub(crate) use split::Travelling;

use crate::arena::align;
use crate::{Phase, Region};

/// Regions in which units hold cells.
pub(crate) const HELD: [Region; 2] = [Region::Slot, Region::Kv];
/// Positions in [`HELD`].
pub(crate) const SLOT: usize = 0;
const KV: usize = 1;

/// Where a plan puts an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planned {
    /// Into a cell of the unit, in the region at `held` in [`HELD`], by its number there.
    Cell { held: usize, number: usize },
    /// Into the transient frame.
    Transient { offset: u64 },
    /// Wherever the communicator's region has room.
    Comm,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    to: Planned,
}

/// The cells that a unit holds in one region: most from its opening, some from their first use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holding {
    /// Their sizes, by number; those taken at first use come last.
    pub sizes: Vec<u64>,
    /// How many of each size are taken at the opening.
    pub wanted: BTreeMap<u64, u64>,
    /// Bytes taken at the opening.
    pub bytes: u64,
}

impl Holding {
    /// Number of cells taken at the opening.
    pub fn at_opening(&self) -> u64 {
        self.wanted.values().sum()
    }
}

/// Where each allocation of one kind of unit goes.
#[derive(Clone, Debug, Default)]
pub struct UnitPlan {
    first_layer: u32,
    /// By phase, then by layer (0: outside layers, 1: the first layer, ...), then by ordinal.
    entries: [Vec<Vec<Entry>>; Phase::COUNT],
    /// By position in [`HELD`].
    holdings: [Holding; 2],
    transient: u64,
    travelling: Travelling,
}

impl UnitPlan {
    /// Bytes a unit holds in `region` from its opening to its end; for transient memory, the frame
    /// that its phases need while they run.
    pub fn bytes(&self, region: Region) -> u64 {
        match region {
            Region::Slot => self.holdings[SLOT].bytes,
            Region::Kv => self.holdings[KV].bytes,
            Region::Transient => self.transient,
            _ => 0,
        }
    }

    /// Bytes of activations a unit keeps from its forward to the end of its backward.
    pub fn activation_bytes(&self) -> u64 {
        self.holdings.iter().map(|holding| holding.bytes).sum()
    }

    /// Bytes that a unit takes beyond those when its backward runs in two parts: what the first part
    /// keeps for the second.
    pub fn kept_bytes(&self) -> u64 {
        let of = |holding: &Holding| holding.sizes.iter().sum::<u64>() - holding.bytes;
        self.holdings.iter().map(of).sum()
    }

    /// Bytes of the slot that travel to a second memory while the unit waits for its backward.
    pub fn travelling_bytes(&self) -> u64 {
        self.travelling.bytes
    }

    pub(crate) fn travelling(&self) -> &Travelling {
        &self.travelling
    }

    pub(crate) fn holdings(&self) -> &[Holding; 2] {
        &self.holdings
    }

    /// Position of a layer in the tables of ordinals.
    fn layer_index(&self, layer: Option<u32>) -> usize {
        // A layer below the first wraps to an index no table has.
        layer.map_or(0, |layer| (layer.wrapping_sub(self.first_layer) as usize).saturating_add(1))
    }
}

/// A phase in progress: its plan, and how far each layer has come.
pub(crate) struct Ordinals {
    plan: Option<Arc<UnitPlan>>,
    next: Vec<Cell<u32>>,
}

impl Ordinals {
    pub(crate) fn new(plan: Option<Arc<UnitPlan>>) -> Self {
        let layers = plan.as_ref().map_or(0, |plan| plan.entries[0].len());
        Self { plan, next: vec![Cell::new(0); layers] }
    }

    /// Where the next allocation of a layer goes; `None` if it is not the one that was recorded.
    pub(crate) fn next(&self, phase: Phase, layer: Option<u32>, bytes: u64) -> Option<Planned> {
        let plan = self.plan.as_ref()?;
        let layer = plan.layer_index(layer);
        let counter = self.next.get(layer)?;
        let ordinal = counter.replace(counter.get() + 1) as usize;
        let entry = plan.entries[phase as usize][layer].get(ordinal)?;
        (entry.bytes == align(bytes)).then_some(entry.to)
    }
}
