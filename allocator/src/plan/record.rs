use std::sync::Arc;

use super::pack::{Lifetime, pack};
use super::{Entry, KV, Planned, SLOT, UnitPlan};
use crate::arena::align;
use crate::scope::{self, Frame, FrameGuard};
use crate::sync::Mutex;
use crate::{Allocation, Phase, Region};

struct Recorded {
    phase: Phase,
    layer: Option<u32>,
    bytes: u64,
    kv: bool,
    comm: bool,
    born: u64,
    /// `u64::MAX` while it lives.
    died: u64,
}

/// What a [`Recorder`] has seen; allocations share it to report their end.
#[derive(Default)]
pub(crate) struct Record {
    clock: u64,
    /// When each phase ended, if it was recorded.
    ends: [Option<u64>; Phase::COUNT],
    allocations: Vec<Recorded>,
}

impl Record {
    /// Notes an allocation; `None` if it is not one that a plan places.
    pub(crate) fn allocate(&mut self, phase: Phase, bytes: u64) -> Option<usize> {
        let hint = scope::current_place();
        if hint.is_some_and(Region::is_for_callers) {
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
            died: u64::MAX,
        });
        Some(self.allocations.len() - 1)
    }

    pub(crate) fn free(&mut self, index: usize) {
        self.clock += 1;
        // It may outlive the recording.
        if let Some(allocation) = self.allocations.get_mut(index) {
            allocation.died = self.clock;
        }
    }
}

/// Records one unit's forward and backward, made on the meta device, into a [`UnitPlan`].
#[derive(Default)]
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
        let mut record = self.recorder.record.lock();
        record.clock += 1;
        record.ends[self.phase as usize] = Some(record.clock);
    }
}

impl Recorder {
    /// A recorder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
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

    /// Records what follows on this thread as the weight part of the unit's backward.
    pub fn weight(&self) -> RecorderPhase<'_> {
        self.phase(Phase::Weight)
    }

    /// Says that an allocation is a message to another rank: unless the unit's forward saves it too,
    /// it belongs to the communicator.
    pub fn mark_comm(&self, allocation: &Allocation) {
        if let Some(index) = allocation.recorded_index() {
            self.record.lock().allocations[index].comm = true;
        }
    }

    /// The plan of what was recorded.
    pub fn finish(self) -> UnitPlan {
        build(&std::mem::take(&mut *self.record.lock()))
    }
}

fn build(record: &Record) -> UnitPlan {
    let [forward_end, backward_end] =
        [Phase::Forward, Phase::Backward].map(|phase| record.ends[phase as usize]);
    let splits = record.ends[Phase::Weight as usize].is_some();
    let kept_until = |end: Option<u64>, died| end.is_some_and(|end| died > end);
    let layers = || record.allocations.iter().filter_map(|allocation| allocation.layer);
    let first_layer = layers().min().unwrap_or(0);
    let count = layers().max().map_or(1, |last| 2 + (last - first_layer) as usize);
    let entries = std::array::from_fn(|_| vec![Vec::new(); count]);
    let mut plan = UnitPlan { first_layer, entries, ..UnitPlan::default() };
    let (mut temporaries, mut entries, mut slot) = (Vec::new(), Vec::new(), Vec::new());
    for &Recorded { phase, layer, bytes, kv, comm, born, died } in &record.allocations {
        let in_forward = phase == Phase::Forward;
        let layer = plan.layer_index(layer);
        let to = if kv && in_forward {
            plan.hold(KV, bytes)
        } else if in_forward && kept_until(forward_end, died) {
            slot.push(died);
            plan.hold(SLOT, bytes)
        } else if comm {
            Planned::Comm
        } else if splits && phase == Phase::Backward && kept_until(backward_end, died) {
            plan.take_over(&mut slot, bytes, born, died)
        } else {
            temporaries.push(Lifetime { bytes, born, died });
            entries.push((phase as usize, layer, plan.entries[phase as usize][layer].len()));
            Planned::Transient { offset: 0 } // until all are known
        };
        plan.entries[phase as usize][layer].push(Entry { bytes, to });
    }
    let (offsets, extent) = pack(&temporaries);
    for ((phase, layer, ordinal), offset) in entries.into_iter().zip(offsets) {
        plan.entries[phase][layer][ordinal].to = Planned::Transient { offset };
    }
    plan.transient = extent;
    plan
}

impl UnitPlan {
    /// A cell of the slot for a block that lives from `born` to `died`: the smallest whose block is
    /// gone by then, or one more, taken at first use. `slot` says until when each is taken.
    fn take_over(&mut self, slot: &mut Vec<u64>, bytes: u64, born: u64, died: u64) -> Planned {
        let sizes = &self.holdings[SLOT].sizes;
        let fits = |&number: &usize| slot[number] < born && sizes[number] >= bytes;
        match (0..slot.len()).filter(fits).min_by_key(|&number| sizes[number]) {
            Some(number) => {
                slot[number] = died;
                Planned::Cell { held: SLOT, number }
            }
            None => {
                slot.push(died);
                self.holdings[SLOT].sizes.push(bytes);
                Planned::Cell { held: SLOT, number: slot.len() - 1 }
            }
        }
    }

    /// Gives the unit one more cell.
    fn hold(&mut self, held: usize, bytes: u64) -> Planned {
        let holding = &mut self.holdings[held];
        holding.sizes.push(bytes);
        *holding.wanted.entry(bytes).or_default() += 1;
        holding.bytes += bytes;
        Planned::Cell { held, number: holding.sizes.len() - 1 }
    }
}
