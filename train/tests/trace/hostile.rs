//! Logs that are cut, damaged or made up: an error or a summary comes of them, never a panic, and never
//! more memory than they warrant. `SLIMPIPE_FUZZ_SECONDS=60` goes on for that long.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use slimpipe_allocator::events::ReadError;
use slimpipe_runtime::random::Random;
use slimpipe_train::trace::{Summary, TraceError, diff};
use tempfile::TempDir;

use crate::counting::counted;
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
            assert!(diff(std::slice::from_ref(summary), std::slice::from_ref(summary)).is_empty());
        }
        Err(TraceError::Log { source: ReadError::Corrupt { offset, .. }, .. }) => {
            assert!(*offset <= bytes.len() as u64);
        }
        Err(error) => assert!(error.to_string().contains(": byte "), "{error}"),
    }
    result
}

/// A stream of choices.
struct Fuzz {
    random: Random,
    next: u64,
}

impl Fuzz {
    fn word(&mut self) -> u64 {
        let [low, high, ..] = self.random.block(self.next);
        self.next += 1;
        u64::from(high) << 32 | u64::from(low)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound.max(1) as u64) as usize
    }

    /// A number with an eye to the edges.
    fn number(&mut self) -> u64 {
        match self.below(5) {
            0 => 0,
            1 => u64::MAX >> self.below(64),
            2 => 1 << self.below(64),
            3 => self.below(300) as u64,
            _ => self.word(),
        }
    }

    /// Changes one thing.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let records = bytes.len().saturating_sub(HEADER) / RECORD;
        let at = HEADER + RECORD * self.below(records);
        let there = at + RECORD <= bytes.len();
        match self.below(8) {
            0 => {
                let len = self.below(bytes.len() + 1);
                bytes.truncate(len);
            }
            1 if !bytes.is_empty() => {
                let at = self.below(bytes.len());
                bytes[at] = self.number() as u8;
            }
            // One field of a record.
            2 | 3 if there => {
                let (from, len) =
                    [(0, 1), (1, 1), (2, 2), (4, 4), (8, 8), (16, 4), (20, 4)][self.below(7)];
                let value = self.number().to_le_bytes();
                bytes[at + from..at + from + len].copy_from_slice(&value[..len]);
            }
            // A record again, elsewhere or away.
            4 if there => {
                let record = bytes[at..at + RECORD].to_vec();
                let to = HEADER + RECORD * self.below(records);
                bytes.splice(to..to, record);
            }
            5 if there => drop(bytes.drain(at..at + RECORD)),
            // Another kind.
            6 if there => bytes[at] = self.below(16) as u8,
            7 if bytes.len() > 8 => {
                let value = self.number() as u8;
                let at = self.below(8);
                bytes[at] = value;
            }
            _ => bytes.extend(self.word().to_le_bytes()),
        }
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
    let seconds = std::env::var("SLIMPIPE_FUZZ_SECONDS").ok().map(|text| text.parse().unwrap());
    let (start, limit) = (Instant::now(), seconds.map_or(Duration::ZERO, Duration::from_secs));
    let (mut case, mut good, mut bad) = (0, 0u64, 0u64);
    while case < CASES || start.elapsed() < limit {
        let mut fuzz = Fuzz { random: Random::new(case, 0), next: 0 };
        let mut bytes = log.clone();
        for _ in 0..=fuzz.below(4) {
            fuzz.mutate(&mut bytes);
        }
        match read(&path, &bytes) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
        case += 1;
    }
    println!("{case} logs: {good} could be, {bad} could not");
    // Otherwise it tells nothing.
    assert!(good > case / 20 && bad > case / 20);
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
