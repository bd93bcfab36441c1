//! `docs/memory-events.md` shows a log byte by byte: it is one, and what its program writes.

use std::fs;
use std::path::Path;

use slimpipe_allocator::events::Log;
use slimpipe_allocator::offload::FileMemory;
use slimpipe_allocator::{Memory, Recorder, UnitId, allocate, allocate_meta, scope};
use tempfile::TempDir;

/// The program that the document names: one unit, whose forward makes one tensor in layer 1, and which
/// goes to a second memory and back.
fn documented(log: &Path) {
    let second = FileMemory::create(log.parent().unwrap()).unwrap();
    let builder = Memory::builder(3).offload(1.0, second).unwrap();
    let memory = builder.trace(log).unwrap().build();
    let recorder = Recorder::new();
    let forward = recorder.forward();
    let saved = {
        let _layer = scope::layer(1);
        allocate_meta(1000)
    };
    drop((forward, saved));
    memory.install(0, recorder.finish()).unwrap();
    let _entered = memory.enter();
    let unit = memory.unit(UnitId { microbatch: 2, slice: 5, chunk: 0 }).unwrap();
    let forward = unit.forward();
    let layer = scope::layer(1);
    let saved = allocate(1000, "matmul").unwrap();
    drop((layer, forward));
    unit.offload().unwrap();
    unit.settle().unwrap();
    unit.prefetch().unwrap();
    unit.settle().unwrap();
    drop((saved, unit));
}

/// The bytes of the document's dump: lines of an offset, bytes in hexadecimal, and what they are.
fn dumped(document: &str) -> Vec<u8> {
    let dump = document.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let mut bytes = Vec::new();
    for line in dump.lines() {
        let (offset, rest) = line.split_once("  ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{line}");
        let hex = rest.split("  ").next().unwrap();
        bytes.extend(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    bytes
}

/// Without times, and without the lines of call sites: what differs between runs and between edits of
/// this file.
fn settled(log: &Log) -> (Vec<String>, Vec<(&str, &str)>) {
    let told = log.events.iter().map(|event| format!("{:?}", event.what));
    let names = log.names.iter().map(|name| (name.op(), name.location().0));
    (told.collect(), names.collect())
}

#[test]
fn the_log_in_the_document_is_what_its_program_writes() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/memory-events.md");
    let bytes = dumped(&fs::read_to_string(document).unwrap());
    let shown = Log::read(&bytes[..]).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    documented(&path);
    let written = fs::read(&path).unwrap();
    assert_eq!(written.len(), bytes.len(), "{written:02x?}");
    let written = Log::read(&written[..]).unwrap();
    assert_eq!((written.rank, written.truncated), (shown.rank, shown.truncated));
    assert_eq!(shown.began / 1_000_000_000, 1_764_028_800);
    assert_eq!(settled(&written), settled(&shown));
}
