//! What a unit of a random model allocates, and its plan.

use std::collections::VecDeque;

use proptest::prelude::*;
use slimpipe_allocator::{Phase, Recorder, Region, UnitPlan, allocate_meta, scope};

/// What becomes of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Kept for what comes after its phase.
    Saved,
    /// Kept by forward, but gone when backward makes its first.
    SavedForFirst,
    /// Kept, and said to be K/V.
    Kv,
    /// Sent to another rank.
    Message,
    /// Dropped when this many more were made.
    Temporary(usize),
}

#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub layer: Option<u32>,
    pub bytes: u64,
    pub fate: Fate,
}

impl Step {
    /// The hint that the model gives.
    pub fn place(&self) -> Option<Region> {
        (self.fate == Fate::Kv).then_some(Region::Kv)
    }

    /// Where its plan puts it.
    fn region(&self, phase: Phase, splits: bool) -> Region {
        match (phase, self.fate) {
            (Phase::Forward, Fate::Saved | Fate::SavedForFirst) => Region::Slot,
            (Phase::Backward, Fate::Saved) if splits => Region::Slot,
            (Phase::Forward, Fate::Kv) => Region::Kv,
            (_, Fate::Message) => Region::Comm,
            _ => Region::Transient,
        }
    }
}

/// The allocations of a chunk's units, by phase. If the last has any, backward is in two parts.
#[derive(Clone, Debug)]
pub struct Script(pub [Vec<Step>; 3]);

impl Script {
    /// The one in place `ordinal` among those of a layer.
    pub fn find(&self, phase: Phase, layer: Option<u32>, ordinal: usize) -> Option<&Step> {
        self.0[phase as usize].iter().filter(|step| step.layer == layer).nth(ordinal)
    }

    fn splits(&self) -> bool {
        !self.0[Phase::Weight as usize].is_empty()
    }

    /// Where its plan puts a step.
    pub fn region(&self, step: &Step, phase: Phase) -> Region {
        step.region(phase, self.splits())
    }

    pub fn plan(&self) -> UnitPlan {
        let recorder = Recorder::new();
        let (mut kept, mut kept_for_first) = (Vec::new(), Vec::new());
        for phase in [Phase::Forward, Phase::Backward, Phase::Weight] {
            if phase == Phase::Weight && !self.splits() {
                break;
            }
            let _recording = match phase {
                Phase::Forward => recorder.forward(),
                Phase::Backward => recorder.backward(),
                Phase::Weight => recorder.weight(),
            };
            if phase == Phase::Backward {
                kept_for_first.clear();
            }
            let mut temporaries = VecDeque::new();
            for (now, step) in self.0[phase as usize].iter().enumerate() {
                temporaries.retain(|&(until, _)| until > now);
                let _place = step.place().map(scope::place);
                scope::set_layer(step.layer);
                let made = allocate_meta(step.bytes);
                match step.fate {
                    Fate::Saved | Fate::Kv if phase == Phase::Forward => kept.push(made),
                    Fate::Saved if phase == Phase::Backward && self.splits() => kept.push(made),
                    Fate::SavedForFirst if phase == Phase::Forward => kept_for_first.push(made),
                    Fate::Message => recorder.mark_comm(&made),
                    Fate::Temporary(more) => temporaries.push_back((now + 1 + more, made)),
                    Fate::Saved | Fate::SavedForFirst | Fate::Kv => {
                        temporaries.push_back((now + 1, made));
                    }
                }
            }
        }
        recorder.finish()
    }
}

pub fn any_layer() -> impl Strategy<Value = Option<u32>> + Clone {
    prop::option::weighted(0.7, 4u32..7)
}

/// Few sizes, so that they are met again, and now and then any.
pub fn any_bytes() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![3 => prop::sample::select(vec![64, 200, 1024, 8192]), 1 => 0u64..20_000]
}

pub fn any_script() -> impl Strategy<Value = Script> {
    let fate = prop_oneof![
        3 => Just(Fate::Saved),
        1 => Just(Fate::SavedForFirst),
        2 => Just(Fate::Kv),
        1 => Just(Fate::Message),
        4 => (0usize..4).prop_map(Fate::Temporary),
    ];
    let step = (any_layer(), any_bytes(), fate).prop_map(|(layer, bytes, fate)| Step {
        layer,
        bytes,
        fate,
    });
    let steps = || prop::collection::vec(step.clone(), 0..10);
    let weight = prop_oneof![Just(Vec::new()), steps()];
    (steps(), steps(), weight)
        .prop_map(|(forward, backward, weight)| Script([forward, backward, weight]))
}
