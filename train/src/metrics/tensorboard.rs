//! Steps as TensorBoard reads them: a file of records, each an `Event` message in protocol buffers.
//!
//! A record is its length in eight bytes, a check sum of these, the message, and a check sum of it
//! (TensorFlow's `tfrecord`). Of `event.proto` a file uses few fields: `wall_time` (1), `step` (2),
//! `file_version` (3) and `summary` (5), and of `summary.proto` a value's `tag` (1) and
//! `simple_value` (2).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::StepMetrics;
use crate::{Error, Result};

/// The event file of a run, appended to step by step.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Opens `path`, keeping the records of steps up to `after`.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, after: u64) -> Result<Self> {
        let mut kept = Vec::new();
        if after > 0 && path.exists() {
            let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
            let whole = Records(&bytes).filter(|record| step_of(record) <= after);
            whole.for_each(|record| kept.extend_from_slice(record));
        }
        if kept.is_empty() {
            let version = Message::default().text(3, "brain.Event:2");
            kept = record(&event(0, version));
        }
        crate::hub::NewFile::write_all(path, &kept)?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io("open", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, metrics: &StepMetrics) -> Result<()> {
        let value = |summary: Message, tag: &str, value: f64| {
            summary.message(1, Message::default().text(1, tag).float(2, value as f32))
        };
        let whole = [
            ("loss", metrics.loss),
            ("grad_norm", metrics.grad_norm),
            ("lr", metrics.lr),
            ("speed/tokens_per_second", metrics.tokens_per_second),
            ("speed/mfu", metrics.mfu),
            ("speed/bubble_fraction", metrics.bubble_fraction),
        ];
        let mut summary = Message::default();
        for (tag, amount) in whole {
            summary = value(summary, tag, amount);
        }
        for rank in &metrics.ranks {
            let each = [
                ("active_peak_bytes", rank.active_peak_bytes),
                ("activation_peak_bytes", rank.activation_peak_bytes),
                ("reserved_peak_bytes", rank.reserved_peak_bytes),
                ("overflow_hits", rank.overflow_hits),
                ("in_flight_peak", rank.in_flight_peak),
            ];
            for (name, amount) in each {
                summary = value(summary, &format!("{name}/rank{}", rank.rank), amount as f64);
            }
        }
        let bytes = record(&event(metrics.step, Message::default().message(5, summary)));
        let before = self.file.metadata().map_err(Error::io("read", &self.path))?.len();
        self.file.write_all(&bytes).map_err(|error| {
            // A part of a record on a full disk: what follows could not be read.
            let _ = self.file.set_len(before);
            Error::io("write", &self.path)(error)
        })
    }
}

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u8, wire: u8) {
        self.0.push(field << 3 | wire);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn integer(mut self, field: u8, value: u64) -> Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    fn double(mut self, field: u8, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u8, value: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn text(self, field: u8, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u8, value: Self) -> Self {
        self.bytes(field, &value.0)
    }

    fn float(mut self, field: u8, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }
}

/// An event of now: time, step, and what it is about.
fn event(step: u64, what: Message) -> Vec<u8> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut event = Message::default().double(1, now.as_secs_f64()).integer(2, step);
    event.0.extend(what.0);
    event.0
}

/// Bytes before a record's message: its length and the length's check sum.
const HEAD: usize = 12;
/// And behind it: the message's check sum.
const TAIL: usize = 4;

fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(HEAD + message.len() + TAIL);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(message);
    record.extend(masked_crc(message).to_le_bytes());
    record
}

/// The whole records at the beginning of a file.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = u64::from_le_bytes(*self.0.first_chunk()?);
        let whole = usize::try_from(length).ok()?.checked_add(HEAD + TAIL)?;
        let (record, rest) = self.0.split_at_checked(whole)?;
        self.0 = rest;
        Some(record)
    }
}

/// The step of a record that [`event`] made: its second field, behind nine bytes of time and a key.
fn step_of(record: &[u8]) -> u64 {
    let digits = record.iter().skip(HEAD + 9 + 1).take(10).enumerate();
    let mut step = 0;
    for (at, digit) in digits {
        step |= u64::from(digit & 0x7f).checked_shl(7 * at as u32).unwrap_or(0);
        if digit & 0x80 == 0 {
            break;
        }
    }
    step
}

/// CRC-32C, turned and shifted so that check sums of data with check sums in it stay good ones.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The Castagnoli polynomial, bit by bit: a few hundred bytes a step.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_sums_are_those_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    fn step(step: u64) -> StepMetrics {
        StepMetrics {
            step,
            loss: 2.5,
            grad_norm: 1.0,
            lr: 1e-3,
            tokens_per_second: 100.0,
            mfu: 0.4,
            mfu_noncausal: 0.5,
            bubble_fraction: 0.1,
            ranks: Vec::new(),
        }
    }

    fn steps(path: &Path) -> Vec<u64> {
        let bytes = std::fs::read(path).unwrap();
        let records: Vec<&[u8]> = Records(&bytes).collect();
        assert_eq!(records.iter().map(|record| record.len()).sum::<usize>(), bytes.len());
        records.into_iter().map(step_of).collect()
    }

    #[test]
    fn a_resumed_run_writes_the_steps_after_its_checkpoint_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.slimpipe");
        let mut file = EventFile::open(&path, 0).unwrap();
        (1..=300).for_each(|at| file.push(&step(at)).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(steps(&path), Vec::from_iter(0..=300));
        // Cut within a record, as a killed run may leave it.
        bytes.truncate(bytes.len() - 3);
        std::fs::write(&path, bytes).unwrap();
        let mut file = EventFile::open(&path, 200).unwrap();
        file.push(&step(201)).unwrap();
        assert_eq!(steps(&path), Vec::from_iter(0..=201));
        EventFile::open(&path, 0).unwrap();
        assert_eq!(steps(&path), [0]);
    }

    #[test]
    fn a_hostile_length_ends_the_records() {
        for length in [u64::MAX, u64::MAX - 15, 1 << 40, 5] {
            let bytes = [&length.to_le_bytes()[..], &[0; 8]].concat();
            assert_eq!(Records(&bytes).count(), 0);
        }
    }
}
