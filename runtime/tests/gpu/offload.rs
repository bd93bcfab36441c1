//! Units on a GPU whose activations wait in pinned memory of the host.

use slimpipe_allocator::{
    AllocError, Allocation, Memory, Recorder, Space, Unit, UnitId, UnitPlan, allocate_in,
    allocate_meta,
};
use slimpipe_kernels::cuda::DevicePtr;
use slimpipe_mock::driver;
use slimpipe_runtime::cuda::PinnedMemory;

use crate::Rig;

/// Bytes of the tensors that a unit saves.
const SAVED: [u64; 3] = [700_000, 64, 1_300_000];

fn plan() -> UnitPlan {
    let recorder = Recorder::new();
    let phase = recorder.forward();
    let saved = SAVED.map(allocate_meta);
    drop(phase);
    let phase = recorder.backward();
    drop((saved, phase));
    recorder.finish()
}

/// Memory of the GPU whose units let all they save travel.
fn memory(rig: &Rig) -> Memory {
    let pinned = PinnedMemory::new(rig.streams.clone());
    let builder = Memory::builder(0).source(rig.streams.source());
    let memory = builder.offload_by(1.0, pinned).poison().build();
    memory.install(0, plan()).unwrap();
    memory
}

fn at(saved: &Allocation) -> DevicePtr {
    DevicePtr(saved.as_ptr().unwrap().addr().get() as u64)
}

/// A forward whose tensors hold `number`, its own.
fn forward(rig: &Rig, memory: &Memory, number: u8) -> (Unit, Vec<Allocation>) {
    let id = UnitId { microbatch: 0, slice: u32::from(number), chunk: 0 };
    let unit = memory.unit(id).unwrap();
    let phase = unit.forward();
    let none = || -> Result<Memory, AllocError> { unreachable!("the memory is entered") };
    let saved = SAVED.map(|bytes| allocate_in(Space::Device(0), bytes, "save", none).unwrap());
    for (saved, tensor) in saved.iter().zip(0..) {
        rig.fill(at(saved), 3 * number + tensor, saved.bytes() as usize);
    }
    drop(phase);
    (unit, saved.into())
}

/// What the GPU finds in a unit's tensors when its turn comes.
fn assert_whole(rig: &Rig, saved: &[Allocation], number: u8) {
    for (saved, tensor) in saved.iter().zip(0..) {
        let found = rig.read(at(saved), saved.bytes() as usize);
        let expected = 3 * number + tensor;
        assert!(found.iter().all(|&byte| byte == expected), "tensor {tensor} of unit {number}");
    }
}

/// Forwards of `count` units that leave at once, then backwards that are brought back one ahead.
fn step(rig: &Rig, memory: &Memory, count: u8, check: bool) {
    let mut units = Vec::new();
    for number in 0..count {
        let (unit, saved) = forward(rig, memory, number);
        assert!(unit.offload().unwrap());
        if let Some((previous, _)) = units.last() {
            Unit::settle(previous).unwrap();
        }
        units.push((unit, saved));
    }
    units.last().unwrap().0.settle().unwrap();
    units.last().unwrap().0.prefetch().unwrap();
    for number in (0..count).rev() {
        let (unit, saved) = units.pop().unwrap();
        if let Some((next, _)) = units.last() {
            next.prefetch().unwrap();
        }
        unit.settle().unwrap();
        let phase = unit.backward();
        if check {
            assert_whole(rig, &saved, number);
        }
        drop((saved, phase, unit));
    }
}

#[test]
fn what_travels_comes_back_as_it_was_in_any_order_of_the_streams() {
    for order in ["eager", "late", "random:1", "random:2", "random:3", "random:4"] {
        let rig = Rig::new(order);
        let memory = memory(&rig);
        let _entered = memory.enter();
        step(&rig, &memory, 6, true);
        step(&rig, &memory, 9, true);
        assert_eq!(memory.stats().total.active.current, 0, "{order}");
    }
}

#[test]
fn at_most_a_few_units_are_whole_and_no_step_after_the_first_waits_or_asks_for_memory() {
    let rig = Rig::new("late");
    let memory = memory(&rig);
    let _entered = memory.enter();
    step(&rig, &memory, 12, false);
    let before = driver().counters();
    (0..3).for_each(|_| step(&rig, &memory, 12, false));
    let since = driver().counters().since(&before);
    assert_eq!((since.synchronisations(), since.allocations()), (0, 0), "{since}");
    assert_eq!(since.get("copies.to_host"), since.get("copies.to_device"));
    assert!(since.get("copies.to_host") >= 3 * 12 * 3);
    let unit: u64 = SAVED.iter().map(|bytes| bytes.next_multiple_of(64)).sum();
    assert!(memory.stats().total.active.peak <= 3 * unit);
}

#[test]
fn using_what_is_away_is_an_error_that_names_the_user() {
    let rig = Rig::new("eager");
    let memory = memory(&rig);
    let _entered = memory.enter();
    let (unit, saved) = forward(&rig, &memory, 1);
    assert!(unit.offload().unwrap());
    unit.settle().unwrap();
    let told = saved[0].check("norm").unwrap_err().to_string();
    assert!(told.contains("second memory") && told.starts_with("norm"), "{told}");
    unit.prefetch().unwrap();
    unit.settle().unwrap();
    assert_whole(&rig, &saved, 1);
    drop((saved, unit));
}
