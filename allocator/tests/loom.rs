//! Frees from other threads, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p slimpipe-allocator --release --test loom`.
#![cfg(loom)]

use std::collections::BTreeMap;

use loom::thread;
use slimpipe_allocator::adaptor::{Adaptor, Event};
use slimpipe_allocator::{
    AllocError, Allocation, Memory, MemoryStats, Recorder, Region, Unit, UnitId, allocate,
    allocate_meta, scope,
};

const UNIT: UnitId = UnitId { microbatch: 0, slice: 0, chunk: 0 };
const NEXT: UnitId = UnitId { slice: 1, ..UNIT };

/// Sees every block come and go, and that no two are ever in one place.
#[derive(Default)]
struct Witness(BTreeMap<(Region, u64), u64>);

impl Adaptor for Witness {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Allocated { block, .. } => {
                let (start, end) = (block.offset, block.offset + block.bytes);
                let apart = |(&(region, other), &bytes): (&(Region, u64), &u64)| {
                    region != block.region || other + bytes <= start || end <= other
                };
                assert!(self.0.iter().all(apart), "two live blocks in one place");
                self.0.insert((block.region, start), block.bytes);
            }
            Event::Freed { block, .. } => {
                let known = self.0.remove(&(block.region, block.offset));
                assert_eq!(known, Some(block.bytes), "what is freed was allocated");
            }
            _ => {}
        }
    }
}

/// Memory whose units save two tensors.
fn memory() -> Memory {
    let memory = Memory::builder(0).adaptor(Witness::default()).build();
    let recorder = Recorder::new();
    let forward = recorder.forward();
    let saved = [64, 128].map(allocate_meta);
    drop((forward, saved));
    memory.install(0, recorder.finish()).unwrap();
    memory
}

/// What the forward of a new unit saves, and the unit.
fn run(memory: &Memory, id: UnitId) -> Result<(Unit, [Allocation; 2]), AllocError> {
    let unit = memory.unit(id)?;
    let _forward = unit.forward();
    let saved = [allocate(64, "first")?, allocate(128, "second")?];
    Ok((unit, saved))
}

fn nothing_is_left(stats: &MemoryStats) {
    for usage in stats.regions.iter().chain([&stats.total]) {
        assert_eq!((usage.active.current, usage.requested.current), (0, 0));
    }
    assert_eq!((stats.activations.current, stats.units_in_flight.current), (0, 0));
    assert_eq!(stats.overflow_hits, 0);
}

#[test]
fn a_free_races_with_the_end_of_its_unit_and_with_the_next_ones_forward() {
    loom::model(|| {
        let memory = memory();
        let (unit, [first, second]) = run(&memory, UNIT).unwrap();
        let helper = thread::spawn(move || drop((first, second)));
        drop(unit);
        let (unit, [first, second]) = run(&memory, NEXT).unwrap();
        helper.join().unwrap();
        // The late frees were of the closed unit: they took nothing from the new one.
        assert_eq!(memory.stats().region(Region::Slot).active.current, 192);
        drop((first, second, unit));
        nothing_is_left(&memory.stats());
    });
}

#[test]
fn a_free_races_with_allocations_of_its_size() {
    loom::model(|| {
        let memory = memory();
        let _entered = memory.enter();
        let _persistent = scope::place(Region::Persistent);
        let (kept, sent) = (allocate(64, "kept").unwrap(), allocate(64, "sent").unwrap());
        let place = sent.as_ptr();
        let helper = thread::spawn(move || drop(sent));
        let new = allocate(64, "new").unwrap();
        helper.join().unwrap();
        let newer = allocate(64, "newer").unwrap();
        // Whoever came after the free is where the freed block was.
        assert!(new.as_ptr() == place || newer.as_ptr() == place);
        assert_eq!(memory.stats().total.active.current, 192);
        drop((kept, new, newer));
        nothing_is_left(&memory.stats());
    });
}

#[test]
fn a_check_races_with_the_end_of_the_unit() {
    loom::model(|| {
        let memory = memory();
        let (unit, [first, second]) = run(&memory, UNIT).unwrap();
        let helper = thread::spawn(move || {
            let (early, late) = (first.check("early"), first.check("late"));
            assert!(early.is_ok() || late.is_err(), "a closed unit stays closed");
            first
        });
        drop(unit);
        let first = helper.join().unwrap();
        assert!(matches!(first.check("after"), Err(AllocError::EscapedUnit { .. })));
        drop((first, second));
        nothing_is_left(&memory.stats());
    });
}
