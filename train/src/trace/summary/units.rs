//! What plans give units, beside what units hold.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use slimpipe_allocator::events::Block;
use slimpipe_allocator::{Region, UnitId};

/// What a plan gives each unit of a chunk, from `slice` on up to the next planned one; or, for transient
/// memory, what it gives all of them together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnitPlan {
    /// The chunk; `None` for the frame that all units share.
    pub chunk: Option<u32>,
    /// The first slice that follows the plan.
    pub slice: u32,
    /// The region's name.
    pub region: &'static str,
    /// Bytes that the plan gives.
    pub planned: u64,
    /// Most bytes that were live there, in any such unit.
    pub held: u64,
}

/// Chunk, slice and region of a plan.
type Key = (u32, u32, Region);

#[derive(Default)]
pub(super) struct Units {
    /// Planned, and most held so far.
    plans: BTreeMap<Key, (u64, u64)>,
    frame: Option<u64>,
    /// What each open unit holds in slots and in K/V.
    live: HashMap<UnitId, [u64; 2]>,
}

/// The region's place in what a unit holds; `None` for regions in which units hold nothing.
fn place(region: Region) -> Option<usize> {
    match region {
        Region::Slot => Some(0),
        Region::Kv => Some(1),
        _ => None,
    }
}

impl Units {
    pub fn plan(&mut self, chunk: u32, slice: u32, region: Region, bytes: u64) {
        match region {
            Region::Transient => self.frame = Some(bytes),
            _ => self.plans.entry((chunk, slice, region)).or_default().0 = bytes,
        }
    }

    pub fn place(&mut self, block: &Block) {
        let (Some(unit), Some(place)) = (block.unit, place(block.region)) else { return };
        let held = &mut self.live.entry(unit).or_default()[place];
        *held += block.bytes;
        let from = (unit.chunk, 0, block.region);
        let upto = (unit.chunk, unit.slice, block.region);
        let mut plans = self.plans.range_mut(from..=upto).rev();
        if let Some((_, (_, most))) = plans.find(|((_, _, region), _)| *region == block.region) {
            *most = (*most).max(*held);
        }
    }

    pub fn free(&mut self, block: &Block) {
        let (Some(unit), Some(place)) = (block.unit, place(block.region)) else { return };
        if let Some(held) = self.live.get_mut(&unit) {
            held[place] = held[place].saturating_sub(block.bytes);
        }
    }

    pub fn close(&mut self, unit: UnitId) {
        self.live.remove(&unit);
    }

    pub fn finish(self, transient: u64) -> Vec<UnitPlan> {
        let plans = self.plans.into_iter().map(|((chunk, slice, region), (planned, held))| {
            UnitPlan { chunk: Some(chunk), slice, region: region.name(), planned, held }
        });
        let frame = self.frame.map(|planned| {
            let region = Region::Transient.name();
            UnitPlan { chunk: None, slice: 0, region, planned, held: transient }
        });
        plans.chain(frame).collect()
    }
}
