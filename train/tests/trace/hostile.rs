//! Logs that are cut, damaged or made up: an error or a summary comes of them, never a panic, and never
//! more memory than they warrant. With `SLIMPIPE_FUZZ_SECONDS=60` it goes on for that long.

use std::path::Path;
use std::{fs, io};

use slimpipe_allocator::events::ReadError;
use slimpipe_train::trace::export::{Format, Options, export};
use slimpipe_train::trace::view::{Traced, page};
use slimpipe_train::trace::{Diff, Playback, Summary, TraceError, diff};
use tempfile::TempDir;

use crate::counting::counted;
use crate::fuzz::{Fuzz, fuzz};
use crate::program;

/// Mutations that are tried in any case.
const CASES: u64 = 3000;
const HEADER: usize = 24;
const RECORD: usize = 24;

/// Sums up `bytes`, whatever they are.
fn read(path: &Path, bytes: &[u8]) -> Result<Summary, TraceError> {
    fs::write(path, bytes).unwrap();
    let (result, cost) = counted(|| Summary::of(path));
    // Two readers' buffers; then live blocks, owners and names, of some hundred bytes for each record.
    assert!(cost <= 65_536 + 64 * bytes.len(), "{cost} bytes to read {}", bytes.len());
    match &result {
        Ok(summary) => {
            assert!(summary.events <= bytes.len() as u64 / RECORD as u64);
            assert!(summary.cut_at.is_none_or(|at| at < bytes.len() as u64));
            let same = std::slice::from_ref(summary);
            assert_eq!(diff(same, same), Diff::default());
        }
        Err(TraceError::Log { source: ReadError::Corrupt { offset, .. }, .. }) => {
            assert!(*offset <= bytes.len() as u64);
        }
        Err(error) => assert!(error.to_string().contains(": byte "), "{error}"),
    }
    result
}

/// Shows and exports what is at `path`, whatever it is; true if all of it can be.
fn show(path: &Path) -> bool {
    let shown = Playback::open(path).and_then(|mut log| {
        let mut trace = Traced::new("log".to_owned());
        trace.add(&mut log)?;
        page(&[trace], &mut io::sink()).unwrap();
        Ok(())
    });
    let formats = [Format::MemoryViz, Format::Perfetto, Format::Csv, Format::Jsonl];
    let options = Options { entries: 9, timeline: None };
    let exported =
        formats.map(|format| export(&[path.to_owned()], format, &options, &mut io::sink()));
    shown.is_ok() && exported.iter().all(Result::is_ok)
}

/// Changes one thing.
fn mutate(choose: &mut Fuzz, bytes: &mut Vec<u8>) {
    let records = bytes.len().saturating_sub(HEADER) / RECORD;
    let at = HEADER + RECORD * choose.below(records);
    let there = at + RECORD <= bytes.len();
    match choose.below(8) {
        0 => {
            let len = choose.below(bytes.len() + 1);
            bytes.truncate(len);
        }
        1 if !bytes.is_empty() => {
            let at = choose.below(bytes.len());
            bytes[at] = choose.number() as u8;
        }
        // One field of a record.
        2 | 3 if there => {
            let (from, len) =
                [(0, 1), (1, 1), (2, 2), (4, 4), (8, 8), (16, 4), (20, 4)][choose.below(7)];
            let value = choose.number().to_le_bytes();
            bytes[at + from..at + from + len].copy_from_slice(&value[..len]);
        }
        // A record again, elsewhere or away.
        4 if there => {
            let record = bytes[at..at + RECORD].to_vec();
            let to = HEADER + RECORD * choose.below(records);
            bytes.splice(to..to, record);
        }
        5 if there => drop(bytes.drain(at..at + RECORD)),
        // Another kind.
        6 if there => bytes[at] = choose.below(16) as u8,
        7 if bytes.len() > 8 => {
            let value = choose.number() as u8;
            let at = choose.below(8);
            bytes[at] = value;
        }
        _ => bytes.extend(choose.word().to_le_bytes()),
    }
}

#[test]
fn any_damage_of_a_log_gives_a_summary_or_an_error_at_little_cost() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    let choices: Vec<u8> = (0..90).map(|i: u8| i.wrapping_mul(37)).collect();
    program::run(&choices, 0, &path);
    let log = fs::read(&path).unwrap();
    read(&path, &log).unwrap();
    let (cases, good) = fuzz(CASES, |mut choose| {
        let mut bytes = log.clone();
        for _ in 0..=choose.below(4) {
            mutate(&mut choose, &mut bytes);
        }
        let is_good = read(&path, &bytes).is_ok();
        // A snapshot for PyTorch has no place for every rank and size.
        let is_shown = show(&path);
        assert!(is_good || !is_shown);
        is_good
    });
    // Otherwise it tells nothing.
    assert!(good > cases / 20 && cases - good > cases / 20);
}

#[test]
fn a_log_cut_anywhere_has_a_summary_of_what_is_before_the_cut() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    program::run(&[0, 3, 1, 2, 9, 205, 2, 4], 0, &path);
    let log = fs::read(&path).unwrap();
    let whole = read(&path, &log).unwrap();
    let mut before = 0;
    for cut in HEADER..log.len() {
        let summary = read(&path, &log[..cut]).unwrap();
        assert!(summary.events >= before && summary.active_peak <= whole.active_peak);
        before = summary.events;
    }
    assert_eq!(before, whole.events - 1);
}

#[test]
fn what_cannot_have_happened_is_an_error_with_the_record() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    program::run(&[0, 2], 0, &path);
    let log = fs::read(&path).unwrap();
    // Where records of a kind begin; names have a text.
    let (mut at, mut records) = (HEADER, Vec::new());
    while at < log.len() {
        records.push((log[at], at));
        let text = u32::from_le_bytes(log[at + 16..at + 20].try_into().unwrap());
        at += RECORD + if log[at] == 0 { text.next_multiple_of(8) as usize } else { 0 };
    }
    let first = |kind: u8| records.iter().find(|(found, _)| *found == kind).unwrap().1;
    let again = |kind: u8| {
        let at = first(kind);
        let mut bytes = log.clone();
        bytes.splice(at..at, log[at..at + RECORD].to_vec());
        (bytes, at + RECORD)
    };
    let refuse = |bytes: &[u8], at: usize, expected: &str| {
        let error = read(&path, bytes).unwrap_err().to_string();
        assert!(error.contains(&format!(": byte {at}: ")) && error.contains(expected), "{error}");
    };
    let (bytes, at) = again(1);
    refuse(&bytes, at, "fall on 1024 live at 0");
    let (bytes, at) = again(2);
    refuse(&bytes, at, "are freed, where no such block is live");
    let (bytes, at) = again(3);
    refuse(&bytes, at, "is opened twice");
    let (bytes, at) = again(4);
    refuse(&bytes, at, "is closed without being open");
    let mut bytes = log.clone();
    let at = first(1);
    bytes[at + 8 + 5] = 1; // far beyond what is committed
    refuse(&bytes, at, "are committed");
    bytes[at + 8 + 7] = 1; // beyond all addresses
    refuse(&bytes, at, "no region has ");
}
