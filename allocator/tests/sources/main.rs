//! Memory that comes from elsewhere: a device whose addresses are numbers, with nothing behind them. Whoever
//! followed one would end this process.

mod device;
mod queue;

use std::fs::File;
use std::path::Path;

use slimpipe_allocator::events::{Log, What};
use slimpipe_allocator::{
    AllocError, Allocation, Bytes, Memory, MemoryBuilder, Recorder, Region, Unit, UnitId, UnitPlan,
    allocate, allocate_in, allocate_meta,
};

use device::{DEVICE, Device, FIRST, GRANULE};
use queue::Queue;

fn builder(device: &Device) -> MemoryBuilder {
    Memory::builder(3).source(device.clone())
}

/// Bytes of the device from memory that was entered.
#[track_caller]
fn on_device(bytes: u64, op: &'static str) -> Result<Allocation, AllocError> {
    allocate_in(DEVICE, bytes, op, || -> Result<Memory, AllocError> {
        panic!("the device's memory was entered")
    })
}

fn address(allocation: &Allocation) -> u64 {
    allocation.as_ptr().unwrap().addr().get() as u64
}

fn id(slice: u32) -> UnitId {
    UnitId { microbatch: 0, slice, chunk: 0 }
}

type Make = fn(u64, &'static str) -> Result<Allocation, AllocError>;

/// A forward that saves two tensors and uses a third.
fn forward(make: Make) -> Vec<Allocation> {
    let first = make(5000, "first").unwrap();
    let _used = make(3000, "used").unwrap();
    vec![first, make(700, "second").unwrap()]
}

fn plan() -> UnitPlan {
    let recorder = Recorder::new();
    let phase = recorder.forward();
    let saved = forward(|bytes, _| Ok(allocate_meta(bytes)));
    drop((phase, saved));
    recorder.finish()
}

/// Three units in flight, then none.
fn run(memory: &Memory, make: Make) {
    let units: Vec<_> = (0..3)
        .map(|slice| {
            let unit = memory.unit(id(slice)).unwrap();
            let phase = unit.forward();
            let saved = forward(make);
            drop(phase);
            (unit, saved)
        })
        .collect();
    for (unit, saved) in units.into_iter().rev() {
        let _phase = unit.backward();
        drop(saved);
    }
}

#[test]
fn regions_lie_in_ranges_of_the_source_and_grow_by_its_granules() {
    let device = Device::new(1 << 30);
    let memory = builder(&device).build();
    let _entered = memory.enter();
    assert_eq!(memory.space(), DEVICE);
    memory.install(0, plan()).unwrap();
    let unit = memory.unit(id(0)).unwrap();
    let phase = unit.forward();
    let saved = forward(on_device);
    assert!(saved.iter().all(|saved| (FIRST..).contains(&address(saved))));
    assert_eq!(address(&saved[1]) - address(&saved[0]), 5000u64.next_multiple_of(64));
    let stats = memory.stats();
    assert_eq!(stats.overflow_hits, 0);
    for region in [Region::Slot, Region::Transient] {
        assert_eq!(stats.region(region).reserved.current, GRANULE);
    }
    drop((phase, saved, unit));
    memory.release();
    assert_eq!(memory.stats().total.reserved.current, 0);
}

#[test]
fn a_unit_on_a_device_keeps_the_hosts_memory_out_of_its_plan_and_its_figures() {
    let device = Device::new(1 << 30);
    let memory = builder(&device).strict().build();
    let _entered = memory.enter();
    memory.install(0, plan()).unwrap();
    let unit = memory.unit(id(0)).unwrap();
    let phase = unit.forward();
    let host = allocate(100_000, "staged").unwrap();
    // SAFETY: the host's memory, this test's alone.
    unsafe { host.as_ptr().unwrap().write_bytes(1, 100_000) };
    let saved = forward(on_device);
    assert_eq!((host.rank(), saved[0].rank()), (None, Some(3)));
    assert_eq!(memory.stats().total.requested.current, 5700);
    drop((phase, saved, unit, host));
}

#[test]
fn a_recording_notes_what_its_own_memory_gives_and_nothing_of_another() {
    let device = Device::new(1 << 30);
    let memory = builder(&device).build();
    let _entered = memory.enter();
    let recorder = Recorder::new();
    let phase = recorder.forward();
    let real = on_device(1000, "real").unwrap();
    let host = allocate(5000, "staged").unwrap();
    drop((real, host, phase));
    let plan = recorder.finish();
    assert_eq!(plan.bytes(Region::Transient), 1024);
}

#[test]
fn without_memory_of_the_device_what_the_caller_names_serves() {
    let device = Device::new(1 << 30);
    let shared = Memory::shared().source(device.clone()).build();
    let host = Memory::builder(1).build();
    let _entered = host.enter();
    let named = || Ok::<_, AllocError>(shared.clone());
    let allocation = allocate_in(DEVICE, 100, "test", named).unwrap();
    assert_eq!(allocation.rank(), None);
    assert_eq!(shared.stats().total.requested.current, 100);
    assert_eq!(host.stats().total.requested.current, 0);
    let refused = || Err(AllocError::UnitOpen(id(9)));
    let error = allocate_in(DEVICE, 100, "test", refused).unwrap_err();
    assert!(matches!(error, AllocError::UnitOpen(_)), "what fails there is the caller's error");
}

#[test]
fn poison_is_the_sources_to_write_before_and_after_use() {
    let device = Device::new(1 << 30);
    let memory = builder(&device).poison().build();
    let _entered = memory.enter();
    memory.install(0, plan()).unwrap();
    let allocation = on_device(100, "test").unwrap();
    let at = address(&allocation);
    assert_eq!(device.fills(), [(at, 0xff, 128)]);
    drop(allocation);
    assert_eq!(device.fills()[1..], [(at, 0xff, 128)]);
    let before = device.fills().len();
    let unit = memory.unit(id(0)).unwrap();
    let phase = unit.forward();
    let saved = forward(on_device);
    drop((phase, unit));
    assert_eq!(device.fills().len() - before, 6, "what a unit takes with it is poisoned too");
    drop(saved);
}

#[test]
fn a_full_device_is_an_error_in_its_words_that_leaves_the_memory_usable() {
    let device = Device::new(4 * GRANULE);
    let memory = builder(&device).build();
    let _entered = memory.enter();
    let held = on_device(3 * GRANULE, "held").unwrap();
    let told = on_device(2 * GRANULE, "more").unwrap_err().to_string();
    assert!(told.starts_with("out of memory on rank 3: more asked for 2.0 MiB"), "{told}");
    assert!(told.contains("(the device says: it is full)"), "{told}");
    drop(held);
    on_device(4 * GRANULE, "more").unwrap();
}

#[test]
fn an_event_log_is_the_same_wherever_the_memory_lies() {
    let folder = tempfile::tempdir().unwrap();
    let log = |path: &Path| {
        let log = Log::read(File::open(path).unwrap()).unwrap();
        let events = log.events.into_iter().map(|event| event.what);
        events.filter(|what| !matches!(what, What::Committed { .. })).collect::<Vec<_>>()
    };
    let [host, device] = ["host", "device"].map(|name| folder.path().join(name));
    for (path, builder, make) in [
        (&host, Memory::builder(3), allocate as Make),
        (&device, builder(&Device::new(1 << 30)), on_device as Make),
    ] {
        let memory = builder.limit(Bytes(1 << 29)).trace(path).unwrap().build();
        let _entered = memory.enter();
        memory.install(0, plan()).unwrap();
        (0..3).for_each(|_| run(&memory, make));
        memory.flush().unwrap();
    }
    assert!(log(&host).len() > 100);
    assert_eq!(log(&host), log(&device));
}

/// A unit on a device that saves all it can send away.
fn saved(memory: &Memory) -> (Unit, Vec<Allocation>) {
    memory.install(0, plan()).unwrap();
    let unit = memory.unit(id(0)).unwrap();
    let phase = unit.forward();
    let saved = forward(on_device);
    drop(phase);
    (unit, saved)
}

#[test]
fn a_queue_of_copies_is_asked_in_order_and_waited_for_before_addresses_change() {
    let (device, queue) = (Device::new(1 << 30), Queue::default());
    let memory = builder(&device).offload_by(1.0, queue.clone()).build();
    let _entered = memory.enter();
    let (unit, saved) = saved(&memory);
    let before = address(&saved[0]);
    assert!(unit.offload().unwrap());
    assert_eq!(address(&saved[0]), before, "it is here until it is settled");
    unit.settle().unwrap();
    assert!(saved[0].as_ptr().is_none());
    assert!(matches!(saved[0].check("use"), Err(AllocError::Away { op: "use", .. })));
    unit.prefetch().unwrap();
    assert!(saved[0].as_ptr().is_none(), "it comes, and is not there yet");
    unit.settle().unwrap();
    assert_eq!(address(&saved[0]), before);
    let moves = "[(0, 5056), (5056, 704)]";
    let expected = [
        "grow 5760".into(),
        format!("Out {moves}"),
        "wait Out".into(),
        format!("In {moves}"),
        "wait In".into(),
    ];
    assert_eq!(*queue.asked.lock().unwrap(), expected);
    drop((saved, unit));
}

#[test]
fn copies_that_fail_are_errors_that_name_the_unit_and_the_queue() {
    let (device, queue) = (Device::new(1 << 30), Queue { fails: true, ..Queue::default() });
    let memory = builder(&device).offload_by(1.0, queue).build();
    let _entered = memory.enter();
    let (unit, saved) = saved(&memory);
    assert!(unit.offload().unwrap());
    let told = unit.settle().unwrap_err().to_string();
    assert!(
        told.contains("between memory and a queue (memory.offload): the copy failed"),
        "{told}"
    );
    saved[0].check("use").unwrap();
    drop((saved, unit));
}
