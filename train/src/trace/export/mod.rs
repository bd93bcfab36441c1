//! Memory event logs in the formats of other tools.

mod csv;
mod entries;
mod jsonl;
mod memory_viz;
mod perfetto;
mod pickle;
mod row;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Block, Name, Playback, TraceError};
use crate::draw::Chart;

/// What logs are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A snapshot of PyTorch's allocator (a pickle), for the memory_viz page and `_memory_viz.py`.
    MemoryViz,
    /// Chrome trace events, for Perfetto.
    Perfetto,
    /// A table with a line for each event.
    Csv,
    /// A JSON object for each event, on a line of its own.
    Jsonl,
}

/// Why logs cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A log cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The file cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// The format has no place for what a log tells.
    #[error("{}: {what}; csv and jsonl hold it", path.display())]
    Unfit {
        /// The log.
        path: PathBuf,
        /// What is too large.
        what: String,
    },
}

/// A log that ends within a record, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The log.
    pub path: PathBuf,
    /// Where its whole records end.
    pub at: u64,
}

/// What an export may leave out or take in.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many entries a rank may have at most in a [`Format::MemoryViz`] snapshot, the last ones: its page
    /// fails on much more than a million. Other formats have all.
    pub entries: u64,
    /// What the run's ranks did, for [`Format::Perfetto`]: [`super::timeline`] finds it.
    pub timeline: Option<Chart>,
}

impl Default for Options {
    /// A million entries, no timeline.
    fn default() -> Self {
        Self { entries: 1_000_000, timeline: None }
    }
}

/// What was not exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Logs that end within a record.
    pub cuts: Vec<Cut>,
    /// Ranks with the number of their entries, where those were too many.
    pub entries: Vec<(u32, u64)>,
}

/// Writes `logs`, which are in the order of their ranks and steps as [`super::logs`] gives them, and
/// tells what is left out. Events are streamed: memory is that of a [`Playback`], and of each rank's live blocks
/// at its end.
///
/// # Errors
/// A log that cannot be read, a file that cannot be written, figures that the format has no place for.
pub fn export(
    logs: &[PathBuf],
    format: Format,
    options: &Options,
    out: &mut impl Write,
) -> Result<LeftOut, ExportError> {
    let cuts = match format {
        Format::MemoryViz => return memory_viz::write(logs, options.entries, out),
        Format::Perfetto => perfetto::write(logs, options.timeline.as_ref(), out)?,
        Format::Csv => csv::write(logs, out)?,
        Format::Jsonl => jsonl::write(logs, out)?,
    };
    Ok(LeftOut { cuts, entries: Vec::new() })
}

/// Notes that a log which was read to its end was cut.
fn note_cut(log: &Playback, cuts: &mut Vec<Cut>) {
    cuts.extend(log.cut_at().map(|at| Cut { path: log.path().to_owned(), at }));
}

/// What a block is called: `mb0/slice3/chunk0/layer7/matmul`, without the parts it has not.
fn label(block: &Block, name: &Name) -> String {
    let unit = block.unit.map_or(String::new(), |unit| format!("{unit}/"));
    let layer = block.layer.map_or(String::new(), |layer| format!("layer{layer}/"));
    format!("{unit}{layer}{}", name.op())
}

/// The rank a log says it is of, without reading its events.
fn rank_of(path: &Path) -> Result<u32, TraceError> {
    Ok(Playback::open(path)?.rank())
}
