//! The event log: written by memories, read back whole, cut and corrupted.

mod counting;
mod document;
mod program;
mod replay;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use counting::counted;
use program::Outcome;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use replay::Replay;
use slimpipe_allocator::events::{Block, Log, ReadError, What};
use slimpipe_allocator::{AllocError, Memory, Region, allocate, scope};
use tempfile::TempDir;

/// The log of a program with a bit of everything.
fn sample() -> Vec<u8> {
    let choices: Vec<u8> = (0..60).map(|i: u8| i.wrapping_mul(37)).collect();
    logged(&choices).1
}

fn logged(choices: &[u8]) -> (Outcome, Vec<u8>) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    let outcome = program::run(choices, &path);
    (outcome, fs::read(path).unwrap())
}

/// Bytes before the first record.
const HEADER: usize = 24;

fn header() -> Vec<u8> {
    [&b"SLMEMEV2"[..], &[0; HEADER - 8]].concat()
}

/// Where records begin, and the last one ends, with the number of events before each.
fn boundaries(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut events) = (HEADER, 0);
    let mut found = vec![(at, events)];
    while at < bytes.len() {
        let size = u32::from_le_bytes(bytes[at + 16..at + 20].try_into().unwrap());
        let (is_name, is_owner) = (bytes[at] == 0, bytes[at] == 12);
        at += 24 + if is_name { size.next_multiple_of(8) as usize } else { 0 };
        events += usize::from(!is_name && !is_owner);
        found.push((at, events));
    }
    found
}

proptest! {
    #[test]
    fn a_log_tells_where_every_block_was_and_how_much_was_live(choices in vec(any::<u8>(), 0..120)) {
        let (outcome, bytes) = logged(&choices);
        let log = Log::read(&bytes[..]).unwrap();
        prop_assert_eq!((log.rank, log.truncated), (5, false));
        let replay = Replay::of(&log);
        prop_assert_eq!(replay.placed.len(), outcome.placed.len());
        let mut bases = BTreeMap::new();
        for (told, was) in replay.placed.iter().zip(&outcome.placed) {
            let base = was.1 - told.1;
            prop_assert_eq!((told.0, told.2), (was.0, was.2));
            prop_assert_eq!(*bases.entry(told.0).or_insert(base), base);
        }
        let stats = outcome.stats;
        prop_assert_eq!(replay.active, stats.total.active);
        prop_assert_eq!(replay.most_units, stats.units_in_flight.peak);
        prop_assert_eq!(replay.refused, outcome.refused);
        prop_assert_eq!(replay.requested.values().sum::<u64>(), stats.total.requested.current);
        prop_assert_eq!(replay.hits, stats.overflow_hits);
        prop_assert_eq!(replay.phases, 0);
        for (&(chunk, slice, region), &planned) in &replay.planned {
            if region != Region::Transient {
                prop_assert_eq!(planned, outcome.plans[chunk as usize].bytes(region));
            }
            prop_assert_eq!(slice, 0);
        }
        prop_assert_eq!(replay.planned.len(), 5);
        let makers: Vec<_> = log.events.iter().filter_map(|event| match event.what {
            What::Alloc(Block { unit, .. }) => Some(unit),
            _ => None,
        }).collect();
        prop_assert_eq!(makers, outcome.makers);
        for region in Region::ALL {
            let committed = replay.committed[region.index()];
            prop_assert_eq!(committed, stats.region(region).reserved.current);
        }
    }
}

#[test]
fn a_log_names_operations_call_sites_and_layers() {
    let folder = TempDir::new().unwrap();
    let memory = Memory::builder(0).trace(&folder.path().join("log")).unwrap().build();
    let _entered = memory.enter();
    let line = line!() + 3;
    for layer in [None, Some(0), Some(7)] {
        let _layer = layer.map(scope::layer);
        drop(allocate(64, "matmul"));
    }
    memory.flush().unwrap();
    let log = Log::read(&fs::read(folder.path().join("log")).unwrap()[..]).unwrap();
    let mut layers = Vec::new();
    for event in &log.events {
        if let What::Alloc(Block { layer, name, .. }) = event.what {
            layers.push(layer);
            let name = log.name(name);
            assert_eq!((name.op(), name.location()), ("matmul", (file!(), line)));
        }
    }
    assert_eq!(layers, [None, Some(0), Some(7)]);
}

#[test]
fn a_name_too_long_is_cut_between_characters() {
    let folder = TempDir::new().unwrap();
    let memory = Memory::builder(0).trace(&folder.path().join("log")).unwrap().build();
    let _entered = memory.enter();
    let op: &'static str = Box::leak(format!("x{}", "ö".repeat(400)).into_boxed_str());
    drop(allocate(64, op));
    memory.flush().unwrap();
    let log = Log::read(&fs::read(folder.path().join("log")).unwrap()[..]).unwrap();
    let name = log.events.iter().find_map(|event| match &event.what {
        What::Alloc(Block { name, .. }) => Some(log.name(*name)),
        _ => None,
    });
    assert_eq!((name.unwrap().op(), name.unwrap().site()), (&op[..511], ""));
}

#[test]
fn a_log_that_cannot_be_written_is_an_error_that_names_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("missing").join("log");
    let error = Memory::builder(0).trace(&path).err().unwrap();
    assert!(matches!(error, AllocError::Trace { .. }));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    #[cfg(target_os = "linux")]
    assert!(Memory::builder(0).trace(Path::new("/dev/full")).is_err());
}

#[test]
fn a_log_cut_anywhere_opens_up_to_the_cut() {
    let bytes = sample();
    let whole = Log::read(&bytes[..]).unwrap();
    let boundaries = boundaries(&bytes);
    assert_eq!(boundaries.last(), Some(&(bytes.len(), whole.events.len())));
    assert!(whole.events.len() > 100);
    for cut in 0..bytes.len() {
        match Log::read(&bytes[..cut]) {
            Err(ReadError::Foreign) => assert!(cut < 7),
            Err(ReadError::Corrupt { offset, .. }) => {
                assert!((7..HEADER).contains(&cut));
                assert_eq!(offset, cut as u64);
            }
            Err(error) => panic!("{error}"),
            Ok(log) => {
                let last = boundaries.iter().rposition(|&(at, _)| at <= cut).unwrap();
                let (at, events) = boundaries[last];
                assert_eq!((log.rank, log.truncated), (5, at < cut));
                assert_eq!(log.events, whole.events[..events]);
            }
        }
    }
}

#[test]
fn what_is_not_a_log_is_told_from_one_that_is_corrupt() {
    assert!(matches!(Log::read(&b"not a log at all, but a text"[..]), Err(ReadError::Foreign)));
    let other = Log::read(&b"SLMEMEV3________"[..]).unwrap_err().to_string();
    assert!(other.starts_with("byte 7: the log is of version 3, and this slimpipe"), "{other}");
    let bytes = sample();
    let boundaries = boundaries(&bytes);
    let (at, _) = boundaries[boundaries.len() / 2];
    let corrupt = |position: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at + position] = value;
        let told = Log::read(&bytes[..]).unwrap_err().to_string();
        assert!(told.starts_with(&format!("byte {at}: ")), "{told}");
        told
    };
    assert!(corrupt(0, 15).contains("there is no record of kind 15"));
    assert!(corrupt(0, 0).contains("is out of order or too long"));
}

/// Mostly a byte of `range`, at times any.
fn mostly(range: std::ops::Range<u8>) -> impl Strategy<Value = u8> {
    prop_oneof![40 => range, 1 => any::<u8>()]
}

/// Reads what may be anything: whatever comes of it must have cost little.
fn read_hostile(bytes: &[u8]) -> Result<Log, ReadError> {
    let (result, cost) = counted(|| Log::read(bytes));
    // A buffer for the file; events are a few words a record, in a vector that doubles.
    assert!(cost <= 16_384 + 12 * bytes.len(), "{cost} bytes to read {}", bytes.len());
    match &result {
        Ok(log) => assert!(log.events.len() <= bytes.len() / 24),
        Err(ReadError::Corrupt { offset, .. }) => assert!(*offset <= bytes.len() as u64),
        Err(_) => {}
    }
    result
}

proptest! {
    #[test]
    fn any_bytes_are_a_log_or_an_error(bytes in vec(any::<u8>(), 0..2000), headed in any::<bool>()) {
        let head = if headed { header() } else { Vec::new() };
        let _ = read_hostile(&[head, bytes].concat());
    }

    #[test]
    fn any_records_are_a_log_or_an_error(
        records in vec((mostly(0..15), mostly(0..7), any::<u16>(), any::<[u8; 12]>(), 0u32..530, mostly(0..4)), 0..200),
    ) {
        let mut bytes = header();
        let define = |number: u8| (0, 0, 500, [0; 12], 500, number);
        let mut names = 4;
        for (kind, region, layer, times, size, name) in (0..4).map(define).chain(records) {
            // Most names come in order, and there are two phases.
            let (size, name) = match kind {
                0 if bytes.len() > 2100 && name < 4 => (size, names),
                5 | 11 => (size % 2, name),
                _ => (size, name),
            };
            names += u8::from(kind == 0 && bytes.len() > 2100);
            bytes.extend([kind, region]);
            bytes.extend(layer.to_le_bytes());
            bytes.extend(times);
            bytes.extend(size.to_le_bytes());
            bytes.extend(u32::from(name).to_le_bytes());
            if kind == 0 {
                bytes.resize(bytes.len() + size.next_multiple_of(8) as usize, b'n');
            }
        }
        let _ = read_hostile(&bytes);
    }

    #[test]
    fn a_corrupted_log_is_right_up_to_the_corruption(
        edits in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Option<Index>>(),
    ) {
        let mut bytes = sample();
        let whole = Log::read(&bytes[..]).unwrap();
        let boundaries = boundaries(&bytes);
        let mut first = bytes.len();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            first = first.min(if bytes[at] == value { first } else { at });
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
            first = first.min(bytes.len());
        }
        let intact = boundaries.iter().rposition(|&(at, _)| at <= first);
        match read_hostile(&bytes) {
            Ok(log) => {
                let (_, events) = boundaries[intact.unwrap_or(0)];
                prop_assert_eq!(&log.events[..events], &whole.events[..events]);
            }
            Err(ReadError::Corrupt { offset, .. }) => {
                prop_assert!(intact.is_none_or(|last| offset >= boundaries[last].0 as u64));
            }
            Err(error) => prop_assert!(first < 8, "{}", error),
        }
    }
}
