//! Plans: where each allocation of a unit goes, recorded once and replayed without any search.
//!
//! A [`Recorder`] watches one forward and backward on the meta device. Every allocation is known by
//! (phase, layer, ordinal within the layer), so that one allocation too many in a layer disturbs
//! that layer only. What forward leaves alive is *saved*: packed back to back into the unit's slot
//! (inside a layer) or extra slot (outside), so that slots of different chunks are equally big.
//! What dies earlier is *transient* and shares addresses with whatever is not alive at that time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::arena::align;
use crate::scope::{self, Frame, FrameGuard};
use crate::{AllocError, Phase, Region};

/// A planned allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub bytes: u64,
    pub region: Region,
    /// From the start of the unit's slot in that region, or of the region itself.
    pub offset: u64,
}

/// Where each allocation of one kind of unit goes.
#[derive(Clone, Debug, Default)]
pub struct UnitPlan {
    first_layer: u32,
    /// By phase, then by layer (0: outside layers, 1: the first layer, ...), then by ordinal.
    entries: [Vec<Vec<Entry>>; 2],
    bytes: BTreeMap<Region, u64>,
}

impl UnitPlan {
    /// Bytes a unit takes in `region` (for transient memory: the frame it needs).
    pub fn bytes(&self, region: Region) -> u64 {
        self.bytes.get(&region).copied().unwrap_or(0)
    }

    /// Bytes of activations a unit keeps from its forward to its backward.
    pub fn activation_bytes(&self) -> u64 {
        self.bytes(Region::Slot) + self.bytes(Region::Extra) + self.bytes(Region::Kv)
    }

    /// Position of a layer in the tables of ordinals.
    fn layer_index(&self, layer: Option<u32>) -> usize {
        // A layer below the first wraps to an index no table has.
        layer.map_or(0, |layer| (layer.wrapping_sub(self.first_layer) as usize).saturating_add(1))
    }
}

struct Recorded {
    phase: Phase,
    layer: Option<u32>,
    bytes: u64,
    kv: bool,
    comm: bool,
    born: u64,
    died: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Record {
    clock: u64,
    forward_end: Option<u64>,
    allocations: Vec<Recorded>,
}

impl Record {
    /// Notes an allocation; `None` if it is not one that a plan places.
    pub(crate) fn allocate(&mut self, phase: Phase, bytes: u64) -> Option<usize> {
        let hint = scope::current_place();
        if matches!(hint, Some(Region::Persistent | Region::KvGrad)) {
            return None;
        }
        self.clock += 1;
        self.allocations.push(Recorded {
            phase,
            layer: scope::current_layer(),
            bytes: align(bytes),
            kv: hint == Some(Region::Kv),
            comm: false,
            born: self.clock,
            died: None,
        });
        Some(self.allocations.len() - 1)
    }

    pub(crate) fn free(&mut self, index: usize) {
        self.clock += 1;
        self.allocations[index].died = Some(self.clock);
    }
}

/// Records one unit's forward and backward, made on the meta device, into a [`UnitPlan`].
pub struct Recorder {
    record: Arc<Mutex<Record>>,
}

/// Ends a recorded phase when dropped.
#[must_use = "the phase lasts as long as the guard"]
pub struct RecorderPhase<'a> {
    recorder: &'a Recorder,
    phase: Phase,
    _frame: FrameGuard,
}

impl Drop for RecorderPhase<'_> {
    fn drop(&mut self) {
        if self.phase == Phase::Forward {
            let mut record = self.recorder.record.lock();
            record.clock += 1;
            record.forward_end = Some(record.clock);
        }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A recorder that has seen nothing.
    pub fn new() -> Self {
        Self { record: Arc::default() }
    }

    fn phase(&self, phase: Phase) -> RecorderPhase<'_> {
        let frame = scope::push(Frame::Record { record: self.record.clone(), phase });
        RecorderPhase { recorder: self, phase, _frame: frame }
    }

    /// Records what follows on this thread as the unit's forward.
    pub fn forward(&self) -> RecorderPhase<'_> {
        self.phase(Phase::Forward)
    }

    /// Records what follows on this thread as the unit's backward.
    pub fn backward(&self) -> RecorderPhase<'_> {
        self.phase(Phase::Backward)
    }

    /// Says that an allocation is a message to another rank: if it is freed before the phase ends,
    /// it belongs to the communicator.
    pub fn mark_comm(&self, allocation: &crate::Allocation) {
        if let Some(index) = allocation.recorded_index() {
            self.record.lock().allocations[index].comm = true;
        }
    }

    /// The plan of what was recorded.
    ///
    /// # Errors
    /// None today; recording is total.
    pub fn finish(self) -> Result<UnitPlan, AllocError> {
        let record = std::mem::take(&mut *self.record.lock());
        Ok(build(&record))
    }
}

fn build(record: &Record) -> UnitPlan {
    let forward_end = record.forward_end.unwrap_or(record.clock + 1);
    let layers = || record.allocations.iter().filter_map(|a| a.layer);
    let first_layer = layers().min().unwrap_or(0);
    let count = layers().max().map_or(1, |last| 2 + (last - first_layer) as usize);
    let mut plan = UnitPlan {
        first_layer,
        entries: [vec![Vec::new(); count], vec![Vec::new(); count]],
        bytes: BTreeMap::new(),
    };
    let mut transients = Vec::new();
    for allocation in &record.allocations {
        let died = allocation.died.unwrap_or(u64::MAX);
        let in_forward = allocation.phase == Phase::Forward;
        let dies_in_phase = !in_forward || died < forward_end;
        let region = match allocation {
            _ if allocation.comm && dies_in_phase => Region::Comm,
            _ if allocation.kv && in_forward => Region::Kv,
            _ if dies_in_phase => Region::Transient,
            Recorded { layer: Some(_), .. } => Region::Slot,
            _ => Region::Extra,
        };
        let layer = plan.layer_index(allocation.layer);
        let list = &mut plan.entries[allocation.phase as usize][layer];
        let mut offset = 0;
        match region {
            Region::Slot | Region::Extra | Region::Kv => {
                let end = plan.bytes.entry(region).or_default();
                offset = *end;
                *end += allocation.bytes;
            }
            Region::Transient => transients.push(Lifetime {
                bytes: allocation.bytes,
                born: allocation.born,
                died,
                entry: (allocation.phase as usize, layer, list.len()),
            }),
            _ => {}
        }
        list.push(Entry { bytes: allocation.bytes, region, offset });
    }
    let (offsets, extent) = pack(&transients);
    for (lifetime, offset) in transients.iter().zip(offsets) {
        let (phase, layer, ordinal) = lifetime.entry;
        plan.entries[phase][layer][ordinal].offset = offset;
    }
    plan.bytes.insert(Region::Transient, extent);
    plan
}

struct Lifetime {
    bytes: u64,
    born: u64,
    died: u64,
    entry: (usize, usize, usize),
}

/// Offsets such that blocks alive at the same time never overlap, and the end of the highest one.
/// Largest first, each at the lowest offset that is free during its whole life.
fn pack(blocks: &[Lifetime]) -> (Vec<u64>, u64) {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(blocks[i].bytes), blocks[i].born));
    let mut offsets = vec![0; blocks.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut extent = 0;
    for &i in &order {
        let block = &blocks[i];
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .filter(|&&j| blocks[j].born < block.died && block.born < blocks[j].died)
            .map(|&j| (offsets[j], offsets[j] + blocks[j].bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + block.bytes <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[i] = offset;
        extent = extent.max(offset + block.bytes);
        placed.push(i);
    }
    (offsets, extent)
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
    pub(crate) fn next(
        &self,
        phase: Phase,
        layer: Option<u32>,
        bytes: u64,
    ) -> Option<(Region, u64)> {
        let plan = self.plan.as_ref()?;
        let layer = plan.layer_index(layer);
        let counter = self.next.get(layer)?;
        let ordinal = counter.replace(counter.get() + 1) as usize;
        let entry = plan.entries[phase as usize][layer].get(ordinal)?;
        (entry.bytes == align(bytes)).then_some((entry.region, entry.offset))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_blocks_never_overlap_and_little_is_wasted(
            lives in prop::collection::vec((1u64..40, 0u64..60, 1u64..25), 1..60),
        ) {
            let blocks: Vec<Lifetime> = lives
                .iter()
                .map(|&(size, born, life)| Lifetime { bytes: size * 64, born, died: born + life, entry: (0, 0, 0) })
                .collect();
            let (offsets, extent) = pack(&blocks);
            for i in 0..blocks.len() {
                for j in 0..i {
                    let (a, b) = (&blocks[i], &blocks[j]);
                    let together = a.born < b.died && b.born < a.died;
                    let overlap = offsets[i] < offsets[j] + b.bytes && offsets[j] < offsets[i] + a.bytes;
                    prop_assert!(!(together && overlap));
                }
            }
            let live = |t: u64| -> u64 { blocks.iter().filter(|b| b.born <= t && t < b.died).map(|b| b.bytes).sum() };
            let peak = (0..90).map(live).max().unwrap();
            prop_assert!(extent >= peak);
            prop_assert!(extent <= 2 * peak, "extent {extent} for a peak of {peak}");
        }
    }
}
