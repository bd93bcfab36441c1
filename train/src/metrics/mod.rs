//! What a run reports: one object per step in `metrics.jsonl`, and the same for TensorBoard.

mod tensorboard;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

use tensorboard::EventFile;

/// The figures of one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The step, from 1.
    pub step: u64,
    /// Mean loss of all labels (nats).
    pub loss: f64,
    /// Norm of all gradients, before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Tokens trained on per second.
    pub tokens_per_second: f64,
    /// Model FLOPs utilisation: causal attention counted once, over this machine's measured peak.
    pub mfu: f64,
    /// The same with the masked half of attention counted too, as nanoGPT does.
    pub mfu_noncausal: f64,
    /// Part of the ranks' time that they did not compute, from the recorded timelines.
    pub bubble_fraction: f64,
    /// Each rank's memory.
    pub ranks: Vec<RankMetrics>,
}

/// One rank's memory in one step, from its allocator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankMetrics {
    /// The rank.
    pub rank: u32,
    /// Most units between forward and backward at once.
    pub in_flight_peak: u64,
    /// Most live bytes.
    pub active_peak_bytes: u64,
    /// Most live bytes of activations: what forwards keep for backwards.
    pub activation_peak_bytes: u64,
    /// Most committed bytes.
    pub reserved_peak_bytes: u64,
    /// Allocations inside units that no plan foresaw.
    pub overflow_hits: u64,
}

/// The files of a run's metrics, appended to step by step.
pub struct MetricsFile {
    path: PathBuf,
    file: File,
    events: EventFile,
}

impl MetricsFile {
    /// Opens `path`, and `events` for TensorBoard, keeping the steps up to `after`: a run resumed there
    /// writes the following ones anew.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(path: &Path, events: &Path, after: u64) -> Result<Self> {
        let step = |line: &str| serde_json::from_str::<StepMetrics>(line).ok().map(|m| m.step);
        let mut kept = String::new();
        if after > 0 && path.exists() {
            let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
            for line in text.lines().filter(|line| step(line).is_some_and(|step| step <= after)) {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        crate::hub::NewFile::write_all(path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io("open", path))?;
        Ok(Self { path: path.to_owned(), file, events: EventFile::open(events, after)? })
    }

    /// Appends one step.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn push(&mut self, metrics: &StepMetrics) -> Result<()> {
        let failed = Error::io("write", &self.path);
        let mut line = serde_json::to_vec(metrics).map_err(std::io::Error::from).map_err(failed)?;
        line.push(b'\n');
        let before = self.file.metadata().map_err(Error::io("read", &self.path))?.len();
        self.file.write_all(&line).map_err(|error| {
            // A part of a line on a full disk: readers shall find whole lines.
            let _ = self.file.set_len(before);
            Error::io("write", &self.path)(error)
        })?;
        self.events.push(metrics)
    }
}

/// The metrics in a file, in order.
///
/// # Errors
/// The file cannot be read, or a line is not a step's.
pub fn read(path: &Path) -> Result<Vec<StepMetrics>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let parse = |line| serde_json::from_str(line).map_err(|e| Error::io("parse", path)(e.into()));
    text.lines().map(parse).collect()
}
