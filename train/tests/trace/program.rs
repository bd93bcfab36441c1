//! Something to log: units of a few layers, with parameters, temporaries, messages, and what no plan
//! foresaw.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use slimpipe_allocator::adaptor::{Adaptor, Event};
use slimpipe_allocator::{
    Allocation, Memory, MemoryStats, Recorder, Region, Unit, UnitId, allocate, allocate_meta, scope,
};

/// Where live blocks are, and their bytes.
pub type Live = BTreeMap<(Region, u64), u64>;

/// What is live after each event that places or frees a block, as a digest, and in the end.
#[derive(Default)]
pub struct Watched {
    pub live: Live,
    pub digests: Vec<u64>,
}

impl Watched {
    fn note(&mut self) {
        self.digests
            .push(digest(self.live.iter().map(|(&(region, offset), &len)| (region, offset, len))));
    }
}

/// A number that tells sets of blocks apart.
pub fn digest(live: impl Iterator<Item = (Region, u64, u64)>) -> u64 {
    let one = |(region, offset, bytes): (Region, u64, u64)| {
        let mixed =
            offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ bytes.wrapping_mul(0xff51_afd7_ed55_8ccd);
        (mixed ^ region as u64).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
    };
    live.map(one).fold(0, |sum, mixed| sum ^ (mixed ^ mixed >> 29))
}

struct Watch(Arc<Mutex<Watched>>);

impl Adaptor for Watch {
    fn event(&mut self, event: &Event<'_>) {
        let mut watched = self.0.lock().unwrap();
        match *event {
            Event::Allocated { block, .. } => {
                watched.live.insert((block.region, block.offset), block.bytes);
                watched.note();
            }
            Event::Freed { block, .. } => {
                watched.live.remove(&(block.region, block.offset));
                watched.note();
            }
            _ => {}
        }
    }
}

const LAYERS: u32 = 3;

/// What a forward makes: it saves two tensors a layer and drops a temporary.
fn forward(mut make: impl FnMut(u64, &'static str) -> Allocation) -> Vec<Allocation> {
    let mut saved = Vec::new();
    for index in 0..LAYERS {
        let _layer = scope::layer(index);
        saved.push(make(1000 + u64::from(index), "matmul"));
        drop(make(5000, "softmax"));
        let _place = scope::place(Region::Kv);
        saved.push(make(256, "rope"));
    }
    saved
}

/// Runs a program of these choices on `rank`, and logs it; gives what was live, and the allocator's figures.
pub fn run(choices: &[u8], rank: u32, log: &Path) -> (Watched, MemoryStats) {
    let watched = Arc::new(Mutex::new(Watched::default()));
    let builder = Memory::builder(rank).trace(log).unwrap();
    let memory = builder.adaptor(Watch(watched.clone())).build();
    let recorder = Recorder::new();
    let phase = recorder.forward();
    let saved = forward(|bytes, _| allocate_meta(bytes));
    drop((phase, saved));
    memory.install(0, recorder.finish()).unwrap();
    let entered = memory.enter();
    let mut open: Vec<(Unit, Vec<Allocation>)> = Vec::new();
    let mut held = Vec::new();
    memory.begin_step(1);
    for (at, &choice) in (0..).zip(choices) {
        match choice % 6 {
            0 | 1 => {
                let unit = memory.unit(UnitId { microbatch: at, slice: at % 4, chunk: 0 }).unwrap();
                let phase = unit.forward();
                let saved = forward(|bytes, op| allocate(bytes, op).unwrap());
                // Some temporaries of the last layers are not in the plan.
                held.extend((choice > 200).then(|| allocate(300, "surprise").unwrap()));
                drop(phase);
                open.push((unit, saved));
            }
            2 if !open.is_empty() => {
                let (unit, mut saved) = open.remove(usize::from(choice) % open.len());
                let _phase = unit.backward();
                saved.pop();
                held.extend(saved.pop().filter(|_| choice > 128));
            }
            3 => {
                let place = if choice > 128 { Region::Persistent } else { Region::Comm };
                let _place = scope::place(place);
                held.push(allocate(64 << (choice % 7), "parameter").unwrap());
            }
            4 if !held.is_empty() => drop(held.swap_remove(usize::from(choice) % held.len())),
            5 if choice > 200 => assert!(allocate(1 << 60, "absurd").is_err()),
            5 if choice > 100 => memory.release(),
            _ => {}
        }
    }
    let stats = memory.stats();
    drop((open, held, entered));
    memory.flush().unwrap();
    drop(memory);
    let watched = Arc::into_inner(watched).unwrap().into_inner().unwrap();
    (watched, stats)
}
