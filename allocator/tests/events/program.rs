//! Something to log.

use std::path::Path;
use std::sync::Arc;

use slimpipe_allocator::offload::FileMemory;
use slimpipe_allocator::{
    Allocation, Memory, MemoryStats, Recorder, Region, Unit, UnitId, UnitPlan, allocate,
    allocate_meta, scope,
};

/// What a traced program knows of itself.
pub struct Outcome {
    /// Each block it was given, in order: its region, address and aligned bytes.
    pub placed: Vec<(Region, u64, u64)>,
    /// The unit in which each was made.
    pub makers: Vec<Option<UnitId>>,
    pub refused: u64,
    pub stats: MemoryStats,
    /// By chunk.
    pub plans: Vec<Arc<UnitPlan>>,
}

struct Program {
    memory: Memory,
    units: Vec<(Unit, Vec<Allocation>)>,
    held: Vec<Allocation>,
    placed: Vec<(Region, u64, u64)>,
    makers: Vec<Option<UnitId>>,
    refused: u64,
}

/// Runs a program of these choices, and logs it.
pub fn run(choices: &[u8], log: &Path) -> Outcome {
    let second = FileMemory::create(log.parent().unwrap()).unwrap();
    let builder = Memory::builder(5).offload(1.0, second).unwrap();
    let memory = builder.trace(log).unwrap().build();
    for chunk in 0..2 {
        let recorder = Recorder::new();
        let forward = recorder.forward();
        let saved: Vec<_> = (0..=chunk).map(|layer| saved(layer, allocate_meta)).collect();
        drop(allocate_meta(4000));
        drop((forward, saved));
        memory.install(chunk, recorder.finish()).unwrap();
    }
    let _entered = memory.enter();
    let mut program = Program {
        memory: memory.clone(),
        units: vec![],
        held: vec![],
        placed: vec![],
        makers: vec![],
        refused: 0,
    };
    (0..).zip(choices).for_each(|(at, &choice)| program.step(at, choice));
    let Program { placed, makers, refused, units, held, .. } = program;
    drop((units, held));
    let plans = (0..2).map(|chunk| memory.plan(chunk, 0).unwrap()).collect();
    Outcome { placed, makers, refused, stats: memory.stats(), plans }
}

/// What a layer saves: a tensor, and keys and values.
fn saved(layer: u32, mut make: impl FnMut(u64) -> Allocation) -> [Allocation; 2] {
    let _layer = scope::layer(layer);
    let tensor = make(1000);
    let _place = scope::place(Region::Kv);
    [tensor, make(256)]
}

impl Program {
    fn make(&mut self, unit: Option<UnitId>, bytes: u64) -> Allocation {
        let made = allocate(bytes, "program").unwrap();
        let address = made.as_ptr().unwrap().as_ptr() as u64;
        self.makers.push(unit);
        self.placed.push((made.region(), address, bytes.next_multiple_of(64)));
        made
    }

    /// Sends a unit away, or brings it back; what comes back is placed anew, in the order in which it
    /// left.
    fn travel(&mut self, which: usize) {
        let (unit, kept) = &self.units[which];
        if unit.offload().unwrap() {
            return unit.settle().unwrap();
        }
        let away: Vec<_> = kept.iter().filter(|block| block.as_ptr().is_none()).collect();
        unit.prefetch().unwrap();
        unit.settle().unwrap();
        for block in away {
            let address = block.as_ptr().unwrap().as_ptr() as u64;
            self.makers.push(Some(unit.id()));
            self.placed.push((block.region(), address, block.bytes().next_multiple_of(64)));
        }
    }

    fn step(&mut self, at: u32, choice: u8) {
        let (kind, detail) = (choice % 12, usize::from(choice / 12));
        match kind {
            0..3 => {
                let id = UnitId { microbatch: at, slice: u32::MAX - at, chunk: u32::from(kind) };
                let unit = self.memory.unit(id).unwrap();
                let _forward = unit.forward();
                let layers = 0..=u32::from(kind);
                let kept = layers
                    .flat_map(|layer| saved(layer, |bytes| self.make(Some(id), bytes)))
                    .collect();
                let temporary = self.make(Some(id), 4000);
                // Some outlive their frame.
                self.held.extend((detail == 0).then_some(temporary));
                self.units.push((unit, kept));
            }
            3 if !self.units.is_empty() => {
                let (unit, mut kept) = self.units.swap_remove(detail % self.units.len());
                let _backward = unit.backward();
                drop(self.make(Some(unit.id()), 512));
                kept.pop();
                // Some outlive their unit.
                self.held.extend(kept.pop());
            }
            4 | 5 => {
                let _place = (kind == 4).then(|| scope::place(Region::Persistent));
                let made = self.make(None, 100 << (detail % 12));
                self.held.push(made);
            }
            6 | 7 if !self.held.is_empty() => {
                drop(self.held.swap_remove(detail % self.held.len()));
            }
            8 => self.memory.release(),
            9 if !self.units.is_empty() => self.travel(detail % self.units.len()),
            10 => {
                assert!(allocate(1 << 60, "absurd").is_err());
                self.refused += 1;
            }
            _ => {}
        }
    }
}
