//! What it costs to log five million events, and to sum them up.
//! `cargo bench -p slimpipe-train --bench trace [-- EVENTS]`.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use slimpipe_allocator::{
    AllocError, Allocation, Memory, Recorder, Region, UnitId, allocate, allocate_meta, scope,
};
use slimpipe_train::trace::Summary;

const EVENTS: u64 = 5_000_000;
const LAYERS: u32 = 16;
const SLICES: u32 = 16;
/// Tensors that a layer's forward saves, and temporaries that it drops.
const SAVED: usize = 8;
const DROPPED: usize = 8;
const OPS: [&str; 8] =
    ["rms_norm", "matmul", "rope", "attention", "add", "swiglu", "transpose", "cast"];

/// A unit's forward; what it saves comes back.
fn forward(
    mut make: impl FnMut(u64, &'static str) -> Result<Allocation, AllocError>,
) -> Result<Vec<Allocation>, AllocError> {
    let mut saved = Vec::new();
    for index in 0..LAYERS {
        let _layer = scope::layer(index);
        for (number, op) in (1..=SAVED as u64).zip(OPS) {
            saved.push(make(64 * number, op)?);
        }
        for op in OPS.into_iter().cycle().take(DROPPED) {
            drop(make(4096, op)?);
        }
        let _place = scope::place(Region::Kv);
        saved.push(make(256, "kv")?);
    }
    Ok(saved)
}

/// Logs training: parameters, then microbatch after microbatch, whose slices run backward last in, first
/// out.
fn log(path: &Path, events: u64) -> Result<(), AllocError> {
    let memory = Memory::builder(0).trace(path)?.build();
    let recorder = Recorder::new();
    let phase = recorder.forward();
    let saved = forward(|bytes, _| Ok(allocate_meta(bytes)))?;
    drop((phase, saved));
    memory.install(0, recorder.finish())?;
    let _entered = memory.enter();
    let place = scope::place(Region::Persistent);
    let parameters =
        (0..2000).map(|_| allocate(4096, "parameter")).collect::<Result<Vec<_>, _>>()?;
    drop(place);
    let mut kept = Vec::new();
    // Forward and backward place as many blocks as they free.
    let per_microbatch = 2 * u64::from(SLICES * LAYERS) * (SAVED + DROPPED + 1) as u64;
    for microbatch in 0..events.div_ceil(per_microbatch) as u32 {
        memory.begin_step(u64::from(microbatch) + 1);
        // The highest peak is the last one, so that all is read twice.
        kept.push(allocate(64, "forgotten")?);
        let mut open = Vec::new();
        for slice in 0..SLICES {
            let unit = memory.unit(UnitId { microbatch, slice, chunk: 0 })?;
            let phase = unit.forward();
            let saved = forward(allocate)?;
            drop(phase);
            open.push((unit, saved));
        }
        for (unit, saved) in open.into_iter().rev() {
            let _phase = unit.backward();
            drop(saved);
        }
    }
    drop((parameters, kept));
    memory.flush()
}

/// The most memory that this process ever had, in MiB.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds --bench.
    let given = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("rank-0000.step-00000001.events");
    let start = Instant::now();
    log(&path, given.unwrap_or(EVENTS))?;
    let written = start.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(&path)?.len();
    let before = resident();
    let start = Instant::now();
    let summary = Summary::of(&path)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{} events, {:.2} bytes each", summary.events, bytes as f64 / summary.events as f64);
    println!("logged in {written:.2} s, summed up in {seconds:.2} s on one core");
    if let (Some(before), Some(after)) = (before, resident()) {
        println!("most resident memory: {before:.0} MiB before, {after:.0} MiB with the summary");
    }
    Ok(())
}
