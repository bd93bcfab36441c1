//! Charts of measured timelines, from the executor's spans or from the file in which a run keeps them.

use std::path::Path;

use serde::Deserialize;
use slimpipe_pipeline::execute::Span;

use super::{Bar, Chart, Row};

/// A file that is not a timeline.
#[derive(Debug, thiserror::Error)]
#[error("{path} is no timeline of a run: {reason}")]
pub struct ReadError {
    path: String,
    reason: String,
}

/// A span in a form that travels: label, begin and end in seconds, and the bytes held at the end.
pub type Portable = (String, f64, f64, u64);

/// A rank's spans in a form that travels.
pub fn portable(spans: &[Span]) -> Vec<Portable> {
    let of = |s: &Span| (s.work.label(), s.start.as_secs_f64(), s.end.as_secs_f64(), s.held);
    spans.iter().map(of).collect()
}

/// What is read of a trace event.
#[derive(Deserialize)]
struct Event {
    ph: String,
    name: String,
    pid: u64,
    #[serde(default)]
    tid: u64,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    rank: Option<u64>,
    bytes: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    trace_events: Vec<Event>,
}

impl Chart {
    /// The chart of spans as [`portable`] gives them, by rank.
    pub fn measured(title: String, ranks: Vec<Vec<Portable>>) -> Self {
        let row = |spans: Vec<Portable>| {
            let held = spans.iter().filter(|span| span.3 > 0);
            let held = held.map(|(_, _, end, held)| (*end, *held as f64)).collect();
            let bars = spans.into_iter().map(|(label, begin, end, _)| Bar::new(label, begin, end));
            Row { bars: bars.collect(), held }
        };
        let ranks = ranks.into_iter().map(row).collect();
        Self { title, is_in_seconds: true, is_in_bytes: true, ranks }.finish()
    }

    /// The chart in a run's `timeline.json`.
    ///
    /// # Errors
    /// A file that cannot be read or is none.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let failed = |reason: String| ReadError { path: path.display().to_string(), reason };
        let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let trace: Trace =
            serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        let mut ranks: Vec<Row> = Vec::new();
        for Event { ph, name, tid, ts, dur, args, .. } in
            trace.trace_events.into_iter().filter(|event| event.pid == 0)
        {
            let is_span = match (&*ph, args.rank, args.bytes) {
                ("X", ..) => true,
                ("C", Some(_), Some(_)) => false,
                _ => continue,
            };
            let rank = args.rank.unwrap_or(tid / 2);
            let rank = usize::try_from(rank).unwrap_or(usize::MAX);
            if rank >= MOST_RANKS {
                return Err(failed(format!("{name} is of rank {rank}")));
            }
            if !(ts.is_finite() && dur >= 0.0 && dur.is_finite()) {
                return Err(failed(format!("{name} has no duration")));
            }
            if rank >= ranks.len() {
                ranks.resize_with(rank + 1, Row::default);
            }
            match is_span {
                true => ranks[rank].bars.push(Bar::new(name, ts / 1e6, (ts + dur) / 1e6)),
                false => ranks[rank].held.push((ts / 1e6, args.bytes.unwrap_or_default())),
            }
        }
        if ranks.iter().all(|row| row.bars.is_empty()) {
            return Err(failed("it has no spans".to_owned()));
        }
        let title = format!("measured: {}", path.display());
        let mut chart = Self { title, is_in_seconds: true, is_in_bytes: true, ranks };
        for row in &mut chart.ranks {
            row.bars.sort_by(|a, b| a.begin.total_cmp(&b.begin));
            row.held.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Ok(chart.finish())
    }

    /// Lets times begin at zero, and counts units if it is not known what ranks held.
    fn finish(mut self) -> Self {
        let bars = self.ranks.iter().flat_map(|row| &row.bars);
        let first = bars.map(|bar| bar.begin).fold(f64::INFINITY, f64::min);
        for row in &mut self.ranks {
            for bar in &mut row.bars {
                bar.begin -= first;
                bar.end -= first;
            }
            row.held.iter_mut().for_each(|(at, _)| *at -= first);
        }
        self.is_in_bytes = self.ranks.iter().any(|row| !row.held.is_empty());
        if !self.is_in_bytes {
            self.ranks.iter_mut().for_each(Row::count_units);
        }
        self
    }
}

/// More than anyone has: a larger number in a file is damage.
const MOST_RANKS: usize = 1 << 16;
