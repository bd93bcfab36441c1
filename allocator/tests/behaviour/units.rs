//! What units are: opened once, closed for good.

use slimpipe_allocator::{AllocError, Bytes, Memory, Region, UnitId, allocate, scope};

use crate::rig::{Rig, live};
use crate::unit::*;

/// Bytes that lie in the regions of units.
fn held(memory: &Memory) -> u64 {
    let stats = memory.stats();
    [Region::Slot, Region::Kv].map(|region| stats.region(region).active.current).iter().sum()
}

pub fn a_closed_unit_gives_everything_back(rig: &Rig) {
    let memory = planned(rig.memory());
    let (unit, mut saved) = run_forward(&memory, 0);
    let used = saved.pop();
    drop(used);
    assert_eq!(held(&memory), SLOT_BYTES + KV_BYTES - SAVED);
    drop(unit);
    assert!(live(&memory.stats()).iter().all(|&bytes| bytes == 0), "at once, not with the handles");
    assert!(memory.owners(1).is_empty());
    drop(saved);
}

pub fn a_leftover_is_an_error_that_names_its_user_and_its_unit(rig: &Rig) {
    let memory = planned(rig.memory());
    let (unit, saved) = run_forward(&memory, 7);
    assert!(saved.iter().all(|block| block.check("matmul").is_ok()));
    drop(unit);
    // Another unit in the same cells does not make them valid again.
    let _next = run_forward(&memory, 8);
    for block in &saved {
        let error = block.check("matmul").unwrap_err();
        assert!(matches!(error, AllocError::EscapedUnit { op: "matmul", unit } if unit == id(7)));
        let told = error.to_string();
        assert!(told.starts_with("matmul: ") && told.contains("mb0/slice7/chunk0"), "{told}");
    }
}

pub fn frees_after_the_end_of_the_unit_are_harmless(rig: &Rig) {
    let memory = planned(rig.memory());
    let (unit, leftovers) = run_forward(&memory, 0);
    drop(unit);
    let (unit, saved) = run_forward(&memory, 1);
    assert_eq!(span(&saved[0]), span(&leftovers[0]), "the cells are in use again");
    let before = memory.stats();
    drop(leftovers);
    assert_eq!(memory.stats(), before);
    assert!(saved.iter().all(|block| block.check("matmul").is_ok()));
    run_backward(unit, saved);
}

pub fn a_second_forward_leaves_the_first_ones_blocks_alone(rig: &Rig) {
    let memory = planned(rig.memory());
    let (unit, saved) = run_forward(&memory, 0);
    let again = within(unit.forward(), || forward(&real).unwrap());
    assert!(are_apart(saved.iter().chain(&again)));
    assert!(again.iter().all(|block| block.region() == Region::Overflow));
    assert!(memory.stats().overflow_hits >= again.len() as u64);
    run_backward(unit, saved);
}

pub fn nothing_is_allocated_in_a_closed_unit(rig: &Rig) {
    let memory = planned(rig.memory());
    let unit = memory.unit(id(2)).unwrap();
    let phase = unit.forward();
    drop(unit);
    let before = memory.stats();
    let error = allocate(EMBEDDED, "embedding").unwrap_err();
    assert!(matches!(error, AllocError::UnitClosed { op: "embedding", unit } if unit == id(2)));
    assert_eq!(memory.stats(), before);
    drop(phase);
}

pub fn a_unit_is_not_opened_twice(rig: &Rig) {
    let memory = planned(rig.memory());
    let unit = memory.unit(id(0)).unwrap();
    let before = memory.stats();
    assert!(matches!(memory.unit(id(0)), Err(AllocError::UnitOpen(open)) if open == id(0)));
    assert_eq!(memory.stats(), before);
    let other = memory.unit(UnitId { microbatch: 1, ..id(0) }).unwrap();
    drop(unit);
    drop((memory.unit(id(0)).unwrap(), other));
}

pub fn plans_do_not_change_under_open_units(rig: &Rig) {
    let memory = planned(rig.memory());
    let (unit, saved) = run_forward(&memory, 0);
    let error = memory.install(0, plan()).unwrap_err();
    assert!(matches!(error, AllocError::PlanInUse { open: 1 }), "{error}");
    assert!(matches!(memory.install(1, plan()), Err(AllocError::PlanInUse { open: 1 })));
    run_backward(unit, saved);
    memory.install(1, plan()).unwrap();
}

pub fn strict_memory_refuses_what_no_plan_covers(rig: &Rig) {
    let memory = planned(rig.memory_with(|builder| builder.strict()));
    let (unit, saved) = run_forward(&memory, 0);
    let before = memory.stats();
    within(unit.backward(), || {
        let _layer = scope::layer(1);
        let error = allocate(77, "gather").unwrap_err();
        assert!(matches!(
            error,
            AllocError::NotPlanned { op: "gather", bytes: Bytes(77), unit, layer: Some(1) }
                if unit == Some(id(0))
        ));
        let told = error.to_string();
        assert!(told.contains("mb0/slice0/chunk0, layer 1,"), "{told}");
        assert_eq!(memory.stats(), before);
        let _place = scope::place(Region::KvGrad);
        assert_eq!(allocate(77, "gradient").unwrap().region(), Region::KvGrad);
    });
    run_backward(unit, saved);
    let _entered = memory.enter();
    assert!(allocate(77, "outside").is_ok(), "outside units nothing is planned");
}

pub fn guards_restore_what_was_current_before(rig: &Rig) {
    let memory = planned(rig.memory());
    let _entered = memory.enter();
    let _layer = scope::layer(5);
    let _place = scope::place(Region::Persistent);
    let (unit, saved) = run_forward(&memory, 0);
    assert_eq!(memory.stats().overflow_hits, 0, "a phase begins outside layers and places");
    assert_eq!(scope::current_layer(), Some(5));
    assert_eq!(allocate(64, "weights").unwrap().region(), Region::Persistent);
    run_backward(unit, saved);
}
