//! What it costs to log five million events, to sum them up, to export them and to show them.
//! `cargo bench -p slimpipe-train --bench trace [-- EVENTS [FILE]]`; the log stays in FILE.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use slimpipe_allocator::{
    AllocError, Allocation, Memory, Recorder, Region, UnitId, allocate, allocate_meta, scope,
};
use slimpipe_train::trace::export::{Format, Options, export};
use slimpipe_train::trace::view::{Traced, page};
use slimpipe_train::trace::{Playback, Summary};

const EVENTS: u64 = 5_000_000;
const LAYERS: u32 = 16;
const SLICES: u32 = 16;
/// Microbatches of a step: units of each step have the same names.
const MICROBATCHES: u32 = 8;
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
        let step = microbatch / MICROBATCHES;
        if microbatch % MICROBATCHES == 0 {
            memory.begin_step(u64::from(step) + 1);
        }
        let microbatch = microbatch % MICROBATCHES;
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

/// Runs `work` and prints how long it took, how long a core worked on it, and the most memory that this
/// process had meanwhile.
fn measured<T>(
    what: &str,
    work: impl FnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    // Lets the kernel forget the highest so far, where it has such a file.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (start, before) = (Instant::now(), on_core());
    let result = work()?;
    let seconds = start.elapsed().as_secs_f64();
    print!("{what:<12} {seconds:>6.2} s");
    if let (Some(before), Some(after), Some(most)) = (before, on_core(), resident()) {
        print!(", {:>6.2} s on a core, {most:>4.0} MiB resident at most", after - before);
    }
    println!();
    Ok(result)
}

/// Seconds for which this thread has had a core: others may use the machine too.
fn on_core() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(stat.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

/// Exports to a file, and gives its size.
fn exported(path: &Path, format: Format, out: &Path) -> Result<u64, Box<dyn Error>> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(out)?);
    // All entries: a snapshot for the memory_viz page would have a million.
    let options = Options { entries: u64::MAX, ..Options::default() };
    export(&[path.to_owned()], format, &options, &mut file)?;
    file.flush()?;
    Ok(std::fs::metadata(out)?.len())
}

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds --bench.
    let mut given = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let events = given.next().map(|word| word.parse()).transpose()?.unwrap_or(EVENTS);
    let folder = tempfile::tempdir()?;
    let path = given.next().map_or(folder.path().join("log"), PathBuf::from);
    measured("log", || Ok(log(&path, events)?))?;
    let summary = measured("summary", || Ok(Summary::of(&path)?))?;
    let bytes = std::fs::metadata(&path)?.len();
    println!("{} events, {:.2} bytes each", summary.events, bytes as f64 / summary.events as f64);
    for (name, format) in [
        ("memory-viz", Format::MemoryViz),
        ("perfetto", Format::Perfetto),
        ("csv", Format::Csv),
        ("jsonl", Format::Jsonl),
    ] {
        let out = folder.path().join("export");
        let bytes = measured(name, || exported(&path, format, &out))?;
        println!("{:>24} MB", bytes / 1_000_000);
        std::fs::remove_file(out)?;
    }
    let shown = given.next().map_or(folder.path().join("page.html"), PathBuf::from);
    measured("page", || {
        let mut trace = Traced::new("bench".to_owned());
        trace.add(&mut Playback::open(&path)?)?;
        let mut file = BufWriter::new(File::create(&shown)?);
        page(&[trace], &mut file)?;
        Ok(file.flush()?)
    })?;
    println!("{:>24} MB", std::fs::metadata(&shown)?.len() / 1_000_000);
    Ok(())
}
