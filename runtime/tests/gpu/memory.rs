//! A rank's memory on a GPU: the same regions, plans and figures as on the host.

use slimpipe_allocator::{Bytes, Memory, Recorder, Region, Space, UnitId, UnitPlan};
use slimpipe_kernels::cuda::Range;
use slimpipe_mock::driver;
use slimpipe_runtime::{DType, Device, RawTensor, Result};

use crate::{GPU, Rig, counted};

const MIB: usize = 1 << 20;

fn unit(slice: u32) -> UnitId {
    UnitId { microbatch: 0, slice, chunk: 0 }
}

/// What a unit does: forward saves one tensor of `rows` rows and uses another.
fn forward(rows: usize, device: Device) -> Result<RawTensor> {
    let saved = RawTensor::zeros((rows, 64), DType::F32, device)?;
    let _used = RawTensor::zeros((rows, 32), DType::F32, device)?;
    Ok(saved)
}

fn backward(rows: usize, saved: RawTensor) -> Result<()> {
    let _gradient = RawTensor::zeros((rows, 64), DType::F32, saved.device())?;
    drop(saved);
    Ok(())
}

fn plan(rows: usize) -> UnitPlan {
    let recorder = Recorder::new();
    let phase = recorder.forward();
    let saved = forward(rows, Device::Meta).unwrap();
    drop(phase);
    let phase = recorder.backward();
    backward(rows, saved).unwrap();
    drop(phase);
    recorder.finish()
}

/// A pipeline's steady state: `in_flight` units at a time, `count` in all.
fn run(memory: &Memory, rows: usize, in_flight: usize, count: u32) {
    let mut open = std::collections::VecDeque::new();
    for slice in 0..count {
        if open.len() == in_flight {
            let (unit, saved): (slimpipe_allocator::Unit, _) = open.pop_front().unwrap();
            let phase = unit.backward();
            backward(rows, saved).unwrap();
            drop(phase);
        }
        let unit = memory.unit(unit(slice)).unwrap();
        let phase = unit.forward();
        let saved = forward(rows, GPU).unwrap();
        drop(phase);
        open.push_back((unit, saved));
    }
    for (unit, saved) in open {
        let phase = unit.backward();
        backward(rows, saved).unwrap();
        drop(phase);
    }
}

#[test]
fn units_on_a_gpu_follow_their_plan_and_no_step_after_the_first_waits_or_asks_for_memory() {
    let rig = Rig::new("late");
    let memory = Memory::builder(0).source(rig.streams.source()).build();
    let _entered = memory.enter();
    memory.install(0, plan(3000)).unwrap();
    run(&memory, 3000, 4, 12);
    let (before, peaks) = (driver().counters(), memory.stats());
    for _ in 0..3 {
        run(&memory, 3000, 4, 12);
    }
    let since = driver().counters().since(&before);
    assert_eq!((since.synchronisations(), since.allocations()), (0, 0), "{since}");
    let stats = memory.stats();
    assert_eq!(stats.overflow_hits, 0);
    assert_eq!(stats.total.reserved.peak, peaks.total.reserved.peak);
    let slots = stats.region(Region::Slot);
    assert_eq!(slots.active.peak, 4 * 3000 * 64 * 4);
    assert_eq!(slots.reserved.peak, slots.active.peak.next_multiple_of(Range::GRANULE));
    assert_eq!(stats.total.active.current, 0);
}

#[test]
fn a_rank_on_a_gpu_keeps_its_hosts_tensors_out_of_its_plan_and_its_figures() {
    let rig = Rig::new("eager");
    let memory = Memory::builder(0).source(rig.streams.source()).strict().build();
    assert_eq!(memory.space(), Space::Device(0));
    let _entered = memory.enter();
    memory.install(0, plan(10)).unwrap();
    let unit = memory.unit(unit(0)).unwrap();
    let phase = unit.forward();
    let staged = counted(&[1000], Device::Cpu);
    let saved = forward(10, GPU).unwrap();
    assert_eq!(staged.storage().allocation().rank(), None);
    assert_eq!(saved.storage().allocation().rank(), Some(0));
    assert_eq!(memory.stats().total.active.current, 10 * 64 * 4);
    drop((phase, saved, unit));
}

#[test]
fn poisoned_memory_is_filled_on_the_gpu_before_and_after_use() {
    let rig = Rig::new("late");
    let memory = Memory::builder(0).source(rig.streams.source()).poison().build();
    let _entered = memory.enter();
    let mut x = RawTensor::empty(256, DType::U8, GPU, "test").unwrap();
    let at = x.device_ptr_mut("test").unwrap();
    assert_eq!(x.to_vec::<u8>().unwrap(), [0xff; 256]);
    rig.fill(at, 3, 256);
    assert_eq!(rig.read(at, 256), [3; 256]);
    drop(x);
    assert_eq!(rig.read(at, 256), [0xff; 256]);
}

#[test]
fn a_limit_and_a_full_gpu_are_errors_after_which_the_memory_can_be_used() {
    let rig = Rig::new("eager");
    let memory = Memory::builder(0).source(rig.streams.source()).limit(Bytes(8 << 20)).build();
    let entered = memory.enter();
    let ask = |bytes: usize| RawTensor::zeros(bytes, DType::U8, GPU);
    let held = ask(3 * MIB).unwrap();
    let told = ask(9 * MIB).unwrap_err().to_string();
    assert!(told.contains("limit 8.0 MiB"), "{told}");
    drop((held, entered, memory));
    let memory = Memory::builder(1).source(rig.streams.source()).build();
    let _entered = memory.enter();
    driver().set("memory", "64M");
    let told = ask(100 * MIB).unwrap_err().to_string();
    assert!(told.starts_with("out of memory on rank 1: zeros asked for 100.0 MiB"), "{told}");
    assert!(told.contains("the NVIDIA driver says: out of GPU memory"), "{told}");
    driver().set("memory", "8G");
    ask(100 * MIB).unwrap();
}

#[test]
fn memory_that_is_freed_is_used_again_in_stream_order_and_given_back_when_asked() {
    let rig = Rig::new("late");
    let memory = Memory::builder(0).source(rig.streams.source()).build();
    let _entered = memory.enter();
    let mut first = RawTensor::empty(4 * MIB, DType::U8, GPU, "test").unwrap();
    let at = first.device_ptr_mut("test").unwrap();
    rig.fill(at, 1, 4 * MIB);
    drop(first);
    let mut second = RawTensor::empty(4 * MIB, DType::U8, GPU, "test").unwrap();
    assert_eq!(second.device_ptr_mut("test").unwrap(), at);
    rig.fill(at, 2, 4 * MIB);
    assert!(second.to_vec::<u8>().unwrap().iter().all(|&byte| byte == 2));
    drop(second);
    assert_eq!(memory.stats().total.reserved.current, 4 * MIB as u64);
    memory.release();
    assert_eq!(memory.stats().total.reserved.current, 0);
}
