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

/// A rank's spans in a form that travels: label, begin and end in seconds.
pub fn portable(spans: &[Span]) -> Vec<(String, f64, f64)> {
    let spans = spans.iter();
    spans.map(|s| (s.work.label(), s.start.as_secs_f64(), s.end.as_secs_f64())).collect()
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    trace_events: Vec<Event>,
}

impl Chart {
    /// The chart of spans as [`portable`] gives them, by rank.
    pub fn measured(title: String, ranks: Vec<Vec<(String, f64, f64)>>) -> Self {
        let row = |spans: Vec<(String, f64, f64)>| {
            let bars = spans.into_iter().map(|(label, begin, end)| Bar::new(label, begin, end));
            Row { bars: bars.collect(), held: Vec::new() }
        };
        let ranks = ranks.into_iter().map(row).collect();
        let mut chart = Self { title, is_in_seconds: true, is_in_bytes: false, ranks };
        chart.begin_at_zero();
        chart.ranks.iter_mut().for_each(Row::count_units);
        chart
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
        let mut ranks: Vec<Vec<(String, f64, f64)>> = Vec::new();
        for event in trace.trace_events.into_iter().filter(|e| e.ph == "X" && e.pid == 0) {
            let rank = usize::try_from(event.tid / 2).unwrap_or(usize::MAX);
            if rank >= MOST_RANKS {
                return Err(failed(format!("it has a track {}", event.tid)));
            }
            if !(event.ts.is_finite() && event.dur >= 0.0) {
                return Err(failed(format!("{} has no duration", event.name)));
            }
            if rank >= ranks.len() {
                ranks.resize_with(rank + 1, Vec::new);
            }
            ranks[rank].push((event.name, event.ts / 1e6, (event.ts + event.dur) / 1e6));
        }
        if ranks.is_empty() {
            return Err(failed("it has no spans".to_owned()));
        }
        Ok(Self::measured(format!("measured: {}", path.display()), ranks))
    }

    fn begin_at_zero(&mut self) {
        let bars = || self.ranks.iter().flat_map(|row| &row.bars);
        let first = bars().map(|bar| bar.begin).fold(f64::INFINITY, f64::min);
        for bar in self.ranks.iter_mut().flat_map(|row| &mut row.bars) {
            bar.begin -= first;
            bar.end -= first;
        }
    }
}

/// More than anyone has: a larger number in a file is damage.
const MOST_RANKS: usize = 1 << 16;
