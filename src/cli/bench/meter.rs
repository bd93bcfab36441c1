//! What each phase of each unit does to a rank's memory, seen from inside its allocator.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slimpipe::allocator::adaptor::{Adaptor, Block, Event};
use slimpipe::allocator::{Phase, Region, UnitId};
use slimpipe::pipeline::schedule::{Action, Unit};
use slimpipe::pipeline::simulate::{Category, Held};

/// A rank's live bytes by category, phase by phase. A clone is another handle.
#[derive(Clone)]
pub struct Meter(Arc<Mutex<State>>);

/// What a phase does.
#[derive(Clone, Copy, Default)]
pub struct Change {
    /// By how much its bytes are above those at its begin when all together are highest.
    rise: Held,
    /// By how much at its end, without messages.
    stay: Held,
    /// What it leaves for another rank.
    message: Held,
}

impl Change {
    /// What comes when the phase begins: what it will hold at its highest.
    pub fn begin(&self) -> Held {
        self.rise
    }

    /// What comes when it ends, most of it less than nothing.
    pub fn end(&self) -> Held {
        let mut change = self.stay;
        change.add(&-self.rise);
        change
    }
}

/// What has been seen.
#[derive(Clone, Default)]
pub struct State {
    /// Live bytes.
    pub live: Held,
    /// Live bytes when they were most.
    pub peak: Held,
    /// Whether nothing is sent: what waits to be handed over then belongs to the phases.
    alone: bool,
    /// What each phase did when it last ran.
    changes: HashMap<(UnitId, Phase), Change>,
    /// The phase that runs, with its change so far.
    phase: Option<((UnitId, Phase), Change)>,
    /// Messages that it made, by offset.
    made: HashMap<u64, Held>,
}

impl Meter {
    /// A meter for a rank; `alone` if there is no other.
    pub fn new(alone: bool) -> Self {
        Self(Arc::new(Mutex::new(State { alone, ..State::default() })))
    }

    /// Ends the last phase, and gives what was seen since this was last asked.
    pub fn read(&self) -> State {
        let mut state = self.lock();
        state.end_phase();
        let seen = state.clone();
        state.peak = state.live;
        state.changes.clear();
        seen
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn category(region: Region) -> Category {
    match region {
        Region::Persistent => Category::Parameters,
        Region::Slot | Region::Kv => Category::Activations,
        Region::KvGrad => Category::KvGradients,
        _ => Category::Transient,
    }
}

impl State {
    /// What the phase that `action` is did, by the same unit of the first microbatch.
    pub fn change(&self, action: Action) -> Change {
        match action {
            Action::Forward(unit) => self.of(unit, Phase::Forward),
            Action::Backward(unit) | Action::BackwardInput(unit) => self.of(unit, Phase::Backward),
            Action::BackwardWeight(unit) => self.of(unit, Phase::Weight),
            _ => Change::default(),
        }
    }

    /// What `action` sends.
    pub fn message(&self, action: Action) -> Held {
        match action {
            Action::SendActivation { unit, .. } => self.of(unit, Phase::Forward).message,
            Action::SendGradient { unit, .. } => self.of(unit, Phase::Backward).message,
            _ => Held::NONE,
        }
    }

    fn of(&self, Unit { slice, chunk, .. }: Unit, phase: Phase) -> Change {
        let first = UnitId { microbatch: 0, slice, chunk };
        self.changes.get(&(first, phase)).copied().unwrap_or_default()
    }

    fn allocated(&mut self, block: &Block) {
        let bytes = Held::of(category(block.region), block.bytes as i64);
        self.live.add(&bytes);
        if self.live.total() > self.peak.total() {
            self.peak = self.live;
        }
        let Some((_, change)) = &mut self.phase else { return };
        if block.region == Region::Comm && !self.alone {
            self.made.insert(block.offset, bytes);
            change.message.add(&bytes);
        } else {
            change.stay.add(&bytes);
        }
        let mut now = change.stay;
        now.add(&change.message);
        if now.total() > change.rise.total() {
            change.rise = now;
        }
    }

    fn freed(&mut self, block: &Block) {
        let bytes = -Held::of(category(block.region), block.bytes as i64);
        self.live.add(&bytes);
        let Some((_, change)) = &mut self.phase else { return };
        if block.region != Region::Comm || self.alone {
            change.stay.add(&bytes);
        } else if self.made.remove(&block.offset).is_some() {
            // Others are messages of earlier phases, which go when their receivers have read them.
            change.message.add(&bytes);
        }
    }

    fn end_phase(&mut self) {
        self.changes.extend(self.phase.take());
        self.made.clear();
    }
}

impl Adaptor for Meter {
    fn event(&mut self, event: &Event<'_>) {
        let mut state = self.lock();
        match event {
            Event::Allocated { block, .. } => state.allocated(block),
            Event::Freed { block, .. } => state.freed(block),
            Event::Phase(unit, phase) => {
                state.end_phase();
                state.phase = Some(((*unit, *phase), Change::default()));
            }
            _ => {}
        }
    }
}
