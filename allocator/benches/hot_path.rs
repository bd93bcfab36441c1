//! What one allocate and free cost, by the path they take.
//! `cargo bench -p slimpipe-allocator --bench hot_path`.

use std::time::Instant;

use slimpipe_allocator::{
    AllocError, Allocation, Memory, Recorder, Region, UnitId, allocate, allocate_meta, scope,
};

/// Allocations per phase.
const COUNT: usize = 1000;
/// Phases measured; the median counts.
const ROUNDS: u32 = 201;
/// Temporaries that are alive while others come and go: what a layer's backward holds.
const ALIVE: usize = 8;
const BYTES: u64 = 4096;

/// Makes the allocations of one phase and gives the nanoseconds that each took with its free.
fn timed(mut make: impl FnMut() -> Result<(), AllocError>) -> Result<f64, AllocError> {
    let start = Instant::now();
    for _ in 0..COUNT {
        make()?;
    }
    Ok(start.elapsed().as_nanos() as f64 / COUNT as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A unit whose forward saves `COUNT` tensors and whose backward makes `COUNT` temporaries, one
/// after the other, while `ALIVE` others live.
fn plan(memory: &Memory) -> Result<(), AllocError> {
    let recorder = Recorder::new();
    let forward = recorder.forward();
    let saved: Vec<Allocation> = (0..COUNT).map(|_| allocate_meta(BYTES)).collect();
    drop(forward);
    drop(saved);
    let backward = recorder.backward();
    let alive: Vec<Allocation> = (0..ALIVE).map(|_| allocate_meta(BYTES)).collect();
    (0..COUNT).for_each(|_| drop(allocate_meta(BYTES)));
    drop((alive, backward));
    memory.install(0, recorder.finish())
}

/// Slot, transient, persistent and overflow, in nanoseconds.
fn measure(memory: &Memory) -> Result<[f64; 4], AllocError> {
    plan(memory)?;
    let _entered = memory.enter();
    let pair = || allocate(BYTES, "bench").map(drop);
    let mut times = [const { Vec::new() }; 4];
    for microbatch in 0..ROUNDS {
        let unit = memory.unit(UnitId { microbatch, slice: 0, chunk: 0 })?;
        let forward = unit.forward();
        times[0].push(timed(pair)?);
        drop(forward);
        let backward = unit.backward();
        let alive: Result<Vec<_>, _> = (0..ALIVE).map(|_| allocate(BYTES, "bench")).collect();
        times[1].push(timed(pair)?);
        drop((alive, backward));
        assert_eq!(memory.stats().overflow_hits, 0, "the plan should cover everything measured");
        drop(unit);
        times[2].push({
            let _persistent = scope::place(Region::Persistent);
            timed(pair)?
        });
        times[3].push(timed(pair)?);
    }
    Ok(times.map(median))
}

fn main() -> Result<(), AllocError> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    println!("nanoseconds for allocate + free (median of {ROUNDS} x {COUNT})");
    println!("{:<10} {:>8} {:>10} {:>11} {:>9}", "", "slot", "transient", "persistent", "overflow");
    for round in ["plain", "traced", "plain", "traced"] {
        let builder = Memory::builder(0);
        let traced = round == "traced";
        let memory = if traced { builder.trace(file.path())? } else { builder }.build();
        let [slot, transient, persistent, overflow] = measure(&memory)?;
        println!("{round:<10} {slot:>8.1} {transient:>10.1} {persistent:>11.1} {overflow:>9.1}");
    }
    Ok(())
}
