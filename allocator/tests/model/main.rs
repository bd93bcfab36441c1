//! Random programs, run on a memory and on a model of it.

mod reference;
mod script;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::sample::Index;
use reference::{Block, Reference, Serial};
use script::{Script, any_bytes, any_layer, any_script};
use slimpipe_allocator::adaptor::{Adaptor, Event};
use slimpipe_allocator::offload::FileMemory;
use slimpipe_allocator::{
    AllocError, Allocation, Memory, Phase, PhaseGuard, Region, Unit, UnitId, allocate, scope,
};

#[derive(Clone, Debug)]
enum Action {
    /// Installs plans for the first chunks.
    Install(Vec<Script>),
    Open(UnitId),
    Close(Index),
    Begin(Phase, Index),
    /// Ends the innermost phase.
    End,
    /// Makes what comes next in the script of the innermost phase; tidily, once its temporaries are
    /// gone.
    Follow {
        count: usize,
        tidily: bool,
    },
    /// Makes something, foreseen or not.
    Stray {
        bytes: u64,
        layer: Option<u32>,
        place: Option<Region>,
    },
    Free(Index),
    /// Sends a unit to the second memory; settled, its memory serves others.
    Leave {
        which: Index,
        settled: bool,
    },
    /// Brings a unit back.
    Return(Index),
    Release,
    ResetPeaks,
}

fn any_action() -> impl Strategy<Value = Action> {
    // The last chunk has no plan.
    let unit = (0u32..2, 0u32..3, 0u32..4).prop_map(|(microbatch, slice, chunk)| UnitId {
        microbatch,
        slice,
        chunk,
    });
    let place = prop::option::of(prop::sample::select(Region::ALL.to_vec()));
    prop_oneof![
        1 => prop::collection::vec(any_script(), 1..4).prop_map(Action::Install),
        4 => unit.prop_map(Action::Open),
        3 => any::<Index>().prop_map(Action::Close),
        4 => any::<Index>().prop_map(|unit| Action::Begin(Phase::Forward, unit)),
        3 => any::<Index>().prop_map(|unit| Action::Begin(Phase::Backward, unit)),
        2 => any::<Index>().prop_map(|unit| Action::Begin(Phase::Weight, unit)),
        4 => Just(Action::End),
        9 => (1usize..10, any::<bool>())
            .prop_map(|(count, tidily)| Action::Follow { count, tidily }),
        3 => (any_bytes(), any_layer(), place)
            .prop_map(|(bytes, layer, place)| Action::Stray { bytes, layer, place }),
        6 => any::<Index>().prop_map(Action::Free),
        3 => (any::<Index>(), any::<bool>())
            .prop_map(|(which, settled)| Action::Leave { which, settled }),
        3 => any::<Index>().prop_map(Action::Return),
        1 => Just(Action::Release),
        1 => Just(Action::ResetPeaks),
    ]
}

/// Learns where regions begin, and that they never move.
struct Bases(Arc<Mutex<BTreeMap<Region, u64>>>);

impl Adaptor for Bases {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Allocated { block, memory, .. } = event {
            let base = memory.as_ptr() as u64 - block.offset;
            assert_eq!(*self.0.lock().unwrap().entry(block.region).or_insert(base), base);
        }
    }
}

struct Opened {
    serial: Serial,
    unit: Unit,
    script: Option<Script>,
    forward_ran: bool,
}

struct Running {
    unit: Serial,
    phase: Phase,
    /// What it follows, and how far it has come in each layer.
    script: Option<Script>,
    ordinals: BTreeMap<Option<u32>, usize>,
    followed: usize,
    guard: PhaseGuard,
}

struct Held {
    allocation: Allocation,
    address: u64,
    /// The unit in whose memory it lies.
    unit: Option<Serial>,
    /// In the second memory.
    away: bool,
    block: Block,
}

/// A memory, its model, and the program's variables.
struct Machine {
    memory: Memory,
    bases: Arc<Mutex<BTreeMap<Region, u64>>>,
    model: Reference,
    scripts: BTreeMap<u32, Script>,
    opened: Vec<Opened>,
    running: Vec<Running>,
    held: Vec<Held>,
    next: Serial,
}

impl Machine {
    /// With an adaptor, or on the shorter paths without; `ratio` of what slots hold may travel.
    fn new(watched: bool, ratio: Option<f64>) -> Self {
        let bases = Arc::default();
        let mut builder = Memory::builder(0);
        if let Some(ratio) = ratio {
            let file = FileMemory::create(&std::env::temp_dir()).unwrap();
            builder = builder.offload(ratio, file).unwrap();
        }
        let builder = if watched { builder.adaptor(Bases(Arc::clone(&bases))) } else { builder };
        Self {
            memory: builder.build(),
            bases,
            model: Reference::default(),
            scripts: BTreeMap::new(),
            opened: Vec::new(),
            running: Vec::new(),
            held: Vec::new(),
            next: 0,
        }
    }

    fn run(&mut self, action: Action) {
        match action {
            Action::Install(scripts) => self.install(scripts),
            Action::Open(id) => self.open(id),
            Action::Close(which) if !self.opened.is_empty() => {
                let Opened { serial, unit, .. } =
                    self.opened.swap_remove(which.index(self.opened.len()));
                drop(unit);
                self.model.close(serial);
            }
            Action::Begin(phase, which) if !self.opened.is_empty() => {
                let which = which.index(self.opened.len());
                self.begin(phase, which);
            }
            Action::End => {
                if let Some(Running { guard, .. }) = self.running.pop() {
                    drop(guard);
                }
            }
            Action::Follow { count, tidily } => {
                (0..count).for_each(|_| self.follow(tidily));
            }
            Action::Stray { bytes, layer, place } => self.allocate(bytes, layer, place),
            Action::Free(which) if !self.held.is_empty() => {
                let which = which.index(self.held.len());
                self.free(which);
            }
            Action::Leave { which, settled } if !self.opened.is_empty() => {
                self.leave(which.index(self.opened.len()), settled);
            }
            Action::Return(which) if !self.opened.is_empty() => {
                self.bring_back(which.index(self.opened.len()));
            }
            Action::Release => self.memory.release(),
            Action::ResetPeaks => {
                self.memory.reset_peaks();
                self.model.reset_peaks();
            }
            Action::Close(_)
            | Action::Begin(..)
            | Action::Free(_)
            | Action::Leave { .. }
            | Action::Return(_) => {}
        }
        self.check();
    }

    fn check(&self) {
        self.model.check(&self.memory, &self.bases.lock().unwrap());
        for Held { allocation, unit, away, .. } in &self.held {
            let usable = unit.is_none_or(|serial| self.model.is_open(serial)) && !away;
            assert_eq!(allocation.check("test").is_ok(), usable);
        }
    }

    fn install(&mut self, scripts: Vec<Script>) {
        for (chunk, script) in (0..).zip(scripts) {
            let installed = self.memory.install(chunk, script.plan());
            match self.model.open_units() {
                0 => {
                    installed.unwrap();
                    self.scripts.insert(chunk, script);
                }
                units => assert!(
                    matches!(installed, Err(AllocError::PlanInUse { open }) if open == units)
                ),
            }
        }
    }

    fn open(&mut self, id: UnitId) {
        let taken = self.opened.iter().any(|opened| opened.unit.id() == id);
        match self.memory.unit(id) {
            Err(AllocError::UnitOpen(open)) => assert!(taken && open == id),
            Err(error) => panic!("{error}"),
            Ok(unit) => {
                assert!(!taken);
                let (serial, script) = (self.next, self.scripts.get(&id.chunk).cloned());
                self.next += 1;
                self.model.open(serial, id);
                self.opened.push(Opened { serial, unit, script, forward_ran: false });
            }
        }
    }

    fn begin(&mut self, phase: Phase, which: usize) {
        let Opened { serial, unit, script, forward_ran } = &mut self.opened[which];
        let again = phase == Phase::Forward && std::mem::replace(forward_ran, true);
        self.running.push(Running {
            unit: *serial,
            phase,
            script: script.clone().filter(|_| !again),
            ordinals: BTreeMap::new(),
            followed: 0,
            guard: match phase {
                Phase::Forward => unit.forward(),
                Phase::Backward => unit.backward(),
                Phase::Weight => unit.weight(),
            },
        });
    }

    fn follow(&mut self, tidily: bool) {
        let Some(Running { script: Some(script), phase, followed, .. }) = self.running.last_mut()
        else {
            return;
        };
        let Some(&step) = script.0[*phase as usize].get(*followed) else { return };
        *followed += 1;
        if tidily {
            while let Some(which) =
                self.held.iter().position(|held| held.allocation.region() == Region::Transient)
            {
                self.free(which);
            }
        }
        self.allocate(step.bytes, step.layer, step.place());
    }

    fn allocate(&mut self, bytes: u64, layer: Option<u32>, place: Option<Region>) {
        let lasting = place
            .filter(|place| matches!(place, Region::Persistent | Region::KvGrad | Region::Comm));
        let aligned = bytes.max(1).next_multiple_of(64);
        let running = self.running.last_mut();
        let unit = running.as_ref().map(|running| running.unit);
        let planned = running.and_then(|running| {
            let script = running.script.as_ref().filter(|_| lasting.is_none())?;
            let ordinal = running.ordinals.entry(layer).or_default();
            *ordinal += 1;
            let step = script.find(running.phase, layer, *ordinal - 1)?;
            let same = step.bytes.max(1).next_multiple_of(64) == aligned;
            same.then(|| script.region(step, running.phase))
        });
        let made = {
            let _entered = self.running.is_empty().then(|| self.memory.enter());
            let _layer = layer.map(scope::layer);
            let _place = place.map(scope::place);
            allocate(bytes, "test")
        };
        if let Some(closed) = unit.filter(|&serial| !self.model.is_open(serial)) {
            let told = matches!(made, Err(AllocError::UnitClosed { .. }));
            assert!(told, "unit {closed} is closed");
            return;
        }
        let allocation = made.unwrap();
        let region = allocation.region();
        let expected = planned.or(lasting).unwrap_or(Region::Overflow);
        let occupied = match expected {
            Region::Transient => self.model.is_used(Region::Transient),
            // A cell that a later phase takes over may still be filled.
            Region::Slot => unit.is_some_and(|serial| {
                let away = self.held.iter().any(|held| held.away && held.unit == Some(serial));
                away || self.model.has_slot_blocks(serial)
            }),
            _ => false,
        };
        assert!(
            region == expected || occupied && region == Region::Overflow,
            "{region} {expected}"
        );

        let pointer = allocation.as_ptr().unwrap();
        let address = pointer.as_ptr() as u64;
        assert_eq!((allocation.bytes(), address % 64), (bytes, 0));
        // SAFETY: the block is live and this test's alone; all its aligned bytes are committed.
        unsafe { pointer.write_bytes(0x5a, aligned as usize) };
        let owner = unit.filter(|_| matches!(region, Region::Slot | Region::Kv));
        self.model.allocations += 1;
        self.model.overflow_hits += u64::from(region == Region::Overflow && unit.is_some());
        let block = Block { region, bytes: aligned, requested: bytes, unit: owner };
        self.model.place(address, block);
        self.held.push(Held { allocation, address, unit: owner, away: false, block });
        self.check();
    }

    fn leave(&mut self, which: usize, settled: bool) {
        let Opened { serial, unit, .. } = &self.opened[which];
        let (serial, _) = (*serial, unit.offload().unwrap());
        if settled {
            unit.settle().unwrap();
            self.notice_what_left(serial);
        }
    }

    /// What has left takes no memory any more.
    fn notice_what_left(&mut self, serial: Serial) {
        for held in self.held.iter_mut().filter(|held| held.unit == Some(serial) && !held.away) {
            if held.allocation.as_ptr().is_none() {
                held.away = true;
                assert_eq!(held.block.region, Region::Slot);
                self.model.free(held.address);
            }
        }
    }

    /// What was away is somewhere, as it was.
    fn bring_back(&mut self, which: usize) {
        let Opened { serial, unit, .. } = &self.opened[which];
        let serial = *serial;
        unit.settle().unwrap(); // it may have been leaving
        self.notice_what_left(serial);
        let unit = &self.opened[which].unit;
        unit.prefetch().unwrap();
        unit.settle().unwrap();
        for held in self.held.iter_mut().filter(|held| held.unit == Some(serial) && held.away) {
            let address = held.allocation.as_ptr().unwrap();
            // SAFETY: the block is live and this test's alone.
            let bytes = unsafe {
                std::slice::from_raw_parts(address.as_ptr(), held.block.requested as usize)
            };
            assert!(bytes.iter().all(|&byte| byte == 0x5a));
            (held.address, held.away) = (address.as_ptr() as u64, false);
            self.model.allocations += 1;
            self.model.place(held.address, held.block);
        }
    }

    fn free(&mut self, which: usize) {
        let Held { allocation, address, unit, away, .. } = self.held.swap_remove(which);
        drop(allocation);
        // What went with its unit, or away, may have become another's.
        if unit.is_none_or(|serial| self.model.is_open(serial)) && !away {
            self.model.free(address);
        }
    }

    /// Ends everything: nothing may be left.
    fn finish(mut self) {
        while self.running.pop().is_some() {}
        while !self.held.is_empty() {
            self.free(0);
        }
        while let Some(Opened { serial, unit, .. }) = self.opened.pop() {
            drop(unit);
            self.model.close(serial);
        }
        self.check();
        assert_eq!(self.memory.stats().total.active.current, 0);
        self.memory.release();
        assert_eq!(self.memory.stats().total.reserved.current, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn memory_does_what_its_model_does(
        scripts in prop::collection::vec(any_script(), 1..4),
        actions in prop::collection::vec(any_action(), 1..150),
        watched in any::<bool>(),
        ratio in prop::option::of(prop::sample::select(vec![0.5, 1.0])),
    ) {
        let mut machine = Machine::new(watched, ratio);
        machine.install(scripts);
        actions.into_iter().for_each(|action| machine.run(action));
        machine.finish();
    }
}
