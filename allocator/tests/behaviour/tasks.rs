//! Work that belongs to no unit.

use slimpipe_allocator::{
    AllocError, Memory, Recorder, Region, Task, allocate, allocate_meta, scope,
};

use crate::rig::Rig;
use crate::unit::{id, planned, run_backward, run_forward, within};

/// Longer than any of a unit's temporaries.
const LOGITS: u64 = 1 << 14;
const MESSAGE: u64 = 640;

fn task(memory: &Memory) -> Task {
    let recorder = Recorder::new();
    {
        let _phase = recorder.forward();
        let logits = allocate_meta(LOGITS);
        let message = allocate_meta(MESSAGE);
        recorder.mark_comm(&message);
        drop((logits, message));
    }
    memory.install_task(recorder.finish()).unwrap()
}

pub fn a_task_uses_the_frame_of_units_and_keeps_only_its_messages(rig: &Rig) {
    let memory = planned(rig.memory());
    let task = task(&memory);
    let (unit, saved) = run_forward(&memory, 0);
    let before = memory.stats();
    let message = within(memory.task(&task), || {
        let logits = allocate(LOGITS, "logits").unwrap();
        assert_eq!(logits.region(), Region::Transient);
        allocate(MESSAGE, "message").unwrap()
    });
    assert_eq!(message.region(), Region::Comm);
    let stats = memory.stats();
    assert_eq!(stats.total.active.current, before.total.active.current + MESSAGE);
    assert_eq!(stats.region(Region::Transient).reserved.current, LOGITS.next_multiple_of(4096));
    assert_eq!((stats.overflow_hits, stats.units_in_flight.peak), (0, 1));
    drop(message);
    run_backward(unit, saved);
}

pub fn what_a_task_did_not_foresee_is_counted_or_refused(rig: &Rig) {
    let memory = planned(rig.memory());
    let unforeseen = task(&memory);
    within(memory.task(&unforeseen), || {
        assert_eq!(allocate(77, "gather").unwrap().region(), Region::Overflow);
    });
    assert_eq!(memory.stats().overflow_hits, 1);

    let strict = planned(rig.memory_with(|builder| builder.strict()));
    let unforeseen = task(&strict);
    within(strict.task(&unforeseen), || {
        let error = allocate(77, "gather").unwrap_err();
        assert!(matches!(error, AllocError::NotPlanned { unit: None, .. }));
        assert!(error.to_string().contains("77 B in a task outside units"), "{error}");
        let _place = scope::place(Region::Persistent);
        assert_eq!(allocate(77, "weight").unwrap().region(), Region::Persistent);
    });
}

pub fn tasks_are_not_installed_under_open_units(rig: &Rig) {
    let memory = planned(rig.memory());
    let unit = memory.unit(id(0)).unwrap();
    let error = memory.install_task(Recorder::new().finish()).err();
    assert!(matches!(error, Some(AllocError::PlanInUse { open: 1 })));
    drop(unit);
}
