//! Backwards in two parts, and slices of different lengths.

use slimpipe_allocator::{
    Allocation, Memory, Recorder, Region, Unit, UnitPlan, allocate, allocate_meta,
};

use crate::rig::Rig;
use crate::unit::{are_apart, id, within};

/// What forward saves: for the first part of backward, and for both.
const SAVED: [u64; 2] = [512, 256];
/// What the first part keeps for the second: more than one of them has room for.
const KEPT: [u64; 2] = [448, 320];

fn plan() -> UnitPlan {
    let recorder = Recorder::new();
    let [first, both] = within_recorder(recorder.forward(), || SAVED.map(allocate_meta));
    let kept = within_recorder(recorder.backward(), || {
        let gradient = allocate_meta(1024);
        drop(first);
        let kept = KEPT.map(allocate_meta);
        drop(gradient);
        kept
    });
    within_recorder(recorder.weight(), || {
        let _product = allocate_meta(2048);
        drop((kept, both));
    });
    recorder.finish()
}

fn within_recorder<G, R>(phase: G, run: impl FnOnce() -> R) -> R {
    let result = run();
    drop(phase);
    result
}

fn made<const N: usize>(bytes: [u64; N], op: &'static str) -> [Allocation; N] {
    bytes.map(|bytes| allocate(bytes, op).unwrap())
}

/// Opens a unit and runs its forward and the first part of its backward; `forget` drops what only
/// that part needs, as planned.
fn first_part(memory: &Memory, forget: bool) -> (Unit, Vec<Allocation>) {
    let unit = memory.unit(id(0)).unwrap();
    let [first, both] = within(unit.forward(), || made(SAVED, "saved"));
    let mut kept = vec![both];
    within(unit.backward(), || {
        let _gradient = made([1024], "gradient");
        if !forget {
            kept.push(first);
        } else {
            drop(first);
        }
        kept.extend(made(KEPT, "kept"));
    });
    (unit, kept)
}

pub fn what_a_first_part_keeps_takes_over_cells_that_are_free_by_then(rig: &Rig) {
    let memory = rig.memory();
    let plan = plan();
    assert_eq!((plan.bytes(Region::Slot), plan.kept_bytes()), (768, 320));
    memory.install(0, plan).unwrap();
    let (unit, kept) = first_part(&memory, true);
    assert!(kept.iter().all(|block| block.region() == Region::Slot) && are_apart(&kept));
    assert_eq!(memory.units()[0].slot.reserved.current, 768 + 320);
    within(unit.weight(), || {
        assert_eq!(made([2048], "product")[0].region(), Region::Transient);
    });
    drop(kept);
    drop(unit);
    assert_eq!(memory.stats().overflow_hits, 0);
}

pub fn a_unit_takes_room_for_what_it_keeps_when_it_comes_to_that(rig: &Rig) {
    let memory = rig.memory();
    memory.install(0, plan()).unwrap();
    let unit = memory.unit(id(0)).unwrap();
    assert_eq!(memory.units()[0].slot.reserved.current, 768);
    drop(unit);
    let reserved = || memory.stats().region(Region::Slot).reserved.current;
    let (unit, kept) = first_part(&memory, true);
    let once = reserved();
    drop((kept, unit));
    drop(first_part(&memory, true));
    assert_eq!(reserved(), once, "the next unit gets the same cells");
}

pub fn a_cell_that_is_still_filled_is_not_taken_over(rig: &Rig) {
    let memory = rig.memory();
    memory.install(0, plan()).unwrap();
    let (unit, kept) = first_part(&memory, false);
    assert!(are_apart(&kept));
    assert_eq!(memory.stats().overflow_hits, 1);
    drop((kept, unit));
}

pub fn slices_follow_their_own_plans_and_later_ones_the_last(rig: &Rig) {
    let memory = rig.memory();
    let plan = |bytes| {
        let recorder = Recorder::new();
        let saved = within_recorder(recorder.forward(), || allocate_meta(bytes));
        within_recorder(recorder.backward(), || drop(saved));
        recorder.finish()
    };
    memory.install_slices(0, vec![plan(640), plan(128)]).unwrap();
    for (slice, bytes) in [(0, 640), (1, 128), (2, 128)] {
        let unit = memory.unit(id(slice)).unwrap();
        let saved = within(unit.forward(), || allocate(bytes, "saved").unwrap());
        assert_eq!(saved.region(), Region::Slot, "slice {slice}");
        assert_eq!(unit.usage().slot.reserved.current, bytes);
        drop((saved, unit));
    }
    assert_eq!(memory.stats().overflow_hits, 0);
}
