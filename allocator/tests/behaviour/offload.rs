//! Units that wait in a second memory.

use std::io::{Error, ErrorKind, Result};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use slimpipe_allocator::offload::{FileMemory, SecondMemory};
use slimpipe_allocator::{AllocError, Allocation, Memory, Region, Unit};

use crate::rig::{Rig, live};
use crate::unit::*;

/// Memory whose units let `ratio` of their slots travel to a file.
fn memory(rig: &Rig, ratio: f64) -> Memory {
    let folder = tempfile::tempdir().unwrap();
    let file = FileMemory::create(folder.path()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    planned(rig.memory_with(|builder| builder.offload(ratio, file).unwrap()))
}

/// Fills blocks with numbers that tell them apart.
fn fill(blocks: &[Allocation], first: u8) {
    for (block, number) in blocks.iter().zip(first..) {
        // SAFETY: the block is live, and this test's alone.
        unsafe { block.as_ptr().unwrap().write_bytes(number, block.bytes() as usize) };
    }
}

fn assert_filled(blocks: &[Allocation], first: u8) {
    for (block, number) in blocks.iter().zip(first..) {
        // SAFETY: as above.
        let bytes = unsafe {
            std::slice::from_raw_parts(block.as_ptr().unwrap().as_ptr(), block.bytes() as usize)
        };
        assert!(bytes.iter().all(|&byte| byte == number), "block {number}");
    }
}

fn send_away(unit: &Unit) {
    assert!(unit.offload().unwrap());
    unit.settle().unwrap();
}

fn bring_back(unit: &Unit) {
    unit.prefetch().unwrap();
    unit.settle().unwrap();
}

fn slot_bytes(memory: &Memory) -> u64 {
    memory.stats().region(Region::Slot).active.current
}

pub fn what_travels_comes_back_as_it_was(rig: &Rig) {
    let memory = memory(rig, 1.0);
    let (first, saved) = run_forward(&memory, 0);
    fill(&saved, 1);
    for _ in 0..3 {
        // Another unit takes its place meanwhile.
        send_away(&first);
        assert!(!first.offload().unwrap(), "it is away already");
        let (second, others) = run_forward(&memory, 1);
        fill(&others, 100);
        bring_back(&first);
        assert!(are_apart(saved.iter().chain(&others)));
        assert_filled(&saved, 1);
        assert_filled(&others, 100);
        first.prefetch().unwrap(); // nothing to do
        run_backward(second, others);
    }
    assert!(first.offload().unwrap());
    first.prefetch().unwrap(); // once it has left
    assert!(saved[0].as_ptr().is_none());
    first.settle().unwrap();
    assert_filled(&saved, 1);
    run_backward(first, saved);
    assert_eq!(memory.stats().offloaded.current, 0);
    assert_eq!(memory.stats().offloaded.peak, SLOT_BYTES);
    assert_eq!(memory.stats().overflow_hits, 0);
}

pub fn a_unit_that_is_away_leaves_its_memory_to_others(rig: &Rig) {
    let memory = memory(rig, 1.0);
    let mut flying = Vec::new();
    for slice in 0..6 {
        let (unit, saved) = run_forward(&memory, slice);
        fill(&saved, 10 * slice as u8);
        send_away(&unit);
        assert_eq!(unit.usage().slot.active.current, 0);
        assert_eq!(unit.usage().slot.reserved.current, 0);
        flying.push((unit, saved));
    }
    let stats = memory.stats();
    assert_eq!(stats.region(Region::Slot).active.peak, SLOT_BYTES, "one unit at a time");
    assert!(stats.region(Region::Slot).reserved.peak < SLOT_BYTES + 65_536);
    assert_eq!(stats.offloaded.current, 6 * SLOT_BYTES);
    assert_eq!(stats.activations.current, 6 * KV_BYTES);
    for (slice, (unit, saved)) in flying.into_iter().enumerate().rev() {
        bring_back(&unit);
        assert_filled(&saved, 10 * slice as u8);
        run_backward(unit, saved);
    }
    assert_eq!(memory.stats().region(Region::Slot).active.peak, SLOT_BYTES);
}

pub fn using_what_is_away_names_the_user_and_the_unit(rig: &Rig) {
    let memory = memory(rig, 1.0);
    let (unit, saved) = run_forward(&memory, 7);
    let away = |block: &Allocation| {
        let error = block.check("matmul").unwrap_err();
        assert!(matches!(&error, AllocError::Away { op: "matmul", unit } if *unit == id(7)));
        assert!(block.as_ptr().is_none());
        error.to_string()
    };
    assert!(unit.offload().unwrap());
    assert!(saved[0].check("matmul").is_ok(), "until it is settled it can be used");
    unit.settle().unwrap();
    let told = away(&saved[0]);
    assert!(told.starts_with("matmul: the tensor belongs to unit mb0/slice7/chunk0"), "{told}");
    unit.prefetch().unwrap();
    away(&saved[0]); // it is on its way
    unit.settle().unwrap();
    assert!(saved[0].check("matmul").is_ok());
    run_backward(unit, saved);
}

pub fn keys_and_values_and_what_is_pinned_stay(rig: &Rig) {
    let memory = memory(rig, 1.0);
    let (unit, saved) = run_forward(&memory, 0);
    fill(&saved, 1);
    let stays = saved[3].pin(); // before it leaves
    assert!(unit.offload().unwrap());
    let _stays = saved[6].pin(); // while it leaves
    unit.settle().unwrap();
    for (number, block) in saved.iter().enumerate() {
        let stays = block.region() == Region::Kv || [3, 6].contains(&number);
        assert_eq!(block.check("test").is_ok(), stays, "block {number}");
    }
    assert_eq!(slot_bytes(&memory), 2 * SAVED);
    bring_back(&unit);
    assert_filled(&saved, 1);
    drop(stays);
    send_away(&unit);
    assert_eq!(slot_bytes(&memory), SAVED, "what was read travels");
    bring_back(&unit);
    assert_filled(&saved, 1);
    run_backward(unit, saved);
}

pub fn a_unit_may_close_wherever_it_is(rig: &Rig) {
    let memory = memory(rig, 1.0);
    for steps in 0..5 {
        let (unit, saved) = run_forward(&memory, 0);
        if steps > 0 {
            assert!(unit.offload().unwrap());
        }
        if steps > 1 {
            unit.settle().unwrap();
        }
        if steps > 2 {
            unit.prefetch().unwrap();
        }
        if steps > 3 {
            unit.settle().unwrap();
        }
        drop(unit);
        assert!(matches!(saved[0].check("late"), Err(AllocError::EscapedUnit { .. })));
        assert_eq!(memory.stats().offloaded.current, 0, "after {steps} steps");
        assert!(live(&memory.stats()).iter().all(|&bytes| bytes == 0), "after {steps} steps");
    }
}

pub fn blocks_may_be_freed_wherever_they_are(rig: &Rig) {
    let memory = memory(rig, 1.0);
    let (unit, mut saved) = run_forward(&memory, 0);
    fill(&saved, 1);
    assert!(unit.offload().unwrap());
    drop(saved.remove(9)); // leaving
    unit.settle().unwrap();
    assert_eq!(memory.stats().offloaded.current, SLOT_BYTES - SAVED);
    drop(saved.remove(6)); // away
    assert_eq!(memory.stats().offloaded.current, SLOT_BYTES - 2 * SAVED);
    unit.prefetch().unwrap();
    assert_eq!(slot_bytes(&memory), SLOT_BYTES - 2 * SAVED);
    drop(saved.remove(3)); // coming
    unit.settle().unwrap();
    assert_eq!(slot_bytes(&memory), 128);
    assert_filled(&saved[..3], 1);
    assert_eq!(memory.stats().offloaded.current, 0);
    drop((saved, unit));
}

pub fn only_the_ratio_travels(rig: &Rig) {
    for (ratio, travels) in [(0.0, 0), (0.35, SAVED), (0.8, 2 * SAVED + 128), (0.95, 3 * SAVED)] {
        let memory = memory(rig, ratio);
        assert_eq!(memory.plan(0, 0).unwrap().travelling_bytes(), travels);
        let (unit, saved) = run_forward(&memory, 0);
        assert_eq!(unit.offload().unwrap(), travels > 0);
        unit.settle().unwrap();
        assert_eq!(memory.stats().offloaded.current, travels);
        assert_eq!(slot_bytes(&memory), SLOT_BYTES - travels);
        bring_back(&unit);
        run_backward(unit, saved);
    }
    let plain = planned(rig.memory());
    assert!(!plain.offloads());
    let (unit, saved) = run_forward(&plain, 0);
    assert!(!unit.offload().unwrap());
    bring_back(&unit);
    run_backward(unit, saved);
}

/// Keeps nothing: it refuses what it is told to.
#[derive(Clone, Default)]
struct Refusing {
    room: bool,
    load: Arc<AtomicBool>,
}

impl SecondMemory for Refusing {
    fn name(&self) -> String {
        "a drawer".to_owned()
    }

    fn grow(&self, _: u64) -> Result<()> {
        if self.room { Ok(()) } else { Err(Error::from(ErrorKind::StorageFull)) }
    }

    unsafe fn store(&self, _: u64, _: NonNull<u8>, _: u64) -> Result<()> {
        Ok(())
    }

    unsafe fn load(&self, _: u64, _: NonNull<u8>, _: u64) -> Result<()> {
        let loads = self.load.load(Ordering::Relaxed);
        if loads { Ok(()) } else { Err(Error::other("it is stuck")) }
    }
}

pub fn a_second_memory_without_room_is_an_error_and_the_unit_stays(rig: &Rig) {
    let second = Refusing::default();
    let memory = planned(rig.memory_with(|builder| builder.offload(1.0, second).unwrap()));
    let (unit, saved) = run_forward(&memory, 0);
    let before = memory.stats();
    let told = unit.offload().unwrap_err().to_string();
    let expected = "cannot move activations of unit mb0/slice0/chunk0 between memory and a drawer \
                    (memory.offload): ";
    assert!(told.starts_with(expected), "{told}");
    let remedy = "; free space there, or write to another disk; or lower memory.offload";
    assert!(told.ends_with(remedy), "{told}");
    assert_eq!(memory.stats(), before);
    run_backward(unit, saved);
}

pub fn bytes_that_cannot_be_read_back_are_an_error(rig: &Rig) {
    let second = Refusing { room: true, ..Refusing::default() };
    let load = second.load.clone();
    let memory = planned(rig.memory_with(|builder| builder.offload(1.0, second).unwrap()));
    let (unit, saved) = run_forward(&memory, 0);
    send_away(&unit);
    unit.prefetch().unwrap();
    let told = unit.settle().unwrap_err().to_string();
    assert!(told.contains("it is stuck"), "{told}");
    assert_eq!((slot_bytes(&memory), memory.stats().offloaded.current), (0, SLOT_BYTES));
    load.store(true, Ordering::Relaxed);
    bring_back(&unit);
    run_backward(unit, saved);
}

pub fn no_memory_to_come_back_to_is_an_error_and_may_be_tried_again(rig: &Rig) {
    let file = || FileMemory::create(&std::env::temp_dir()).unwrap();
    // Room for the slots and K/V of two units: regions are whole pages.
    let memory = rig.memory_with(|builder| {
        builder.limit(slimpipe_allocator::Bytes(4 * 4096)).offload(1.0, file()).unwrap()
    });
    let memory = planned(memory);
    let (first, saved) = run_forward(&memory, 0);
    fill(&saved, 1);
    send_away(&first);
    let others: Vec<_> = (1..).map_while(|slice| memory.unit(id(slice)).ok()).collect();
    let told = first.prefetch().unwrap_err().to_string();
    assert!(told.contains("prefetch asked for"), "{told}");
    assert!(saved[0].as_ptr().is_none());
    drop(others);
    bring_back(&first);
    assert_filled(&saved, 1);
    run_backward(first, saved);
}
