//! Charts of what the executor measured.

use serde::{Deserialize, Serialize};
use slimpipe_pipeline::execute::Span;

use super::{Bar, Chart, Row};

/// A span in a form that travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Portable {
    /// What was done, for what.
    pub label: String,
    /// When it began, in seconds since the timeline's origin.
    pub begin: f64,
    /// When it ended.
    pub end: f64,
    /// Bytes held at its end; 0 if that is not known.
    pub held: u64,
    /// The rank at the other end, if it was a message; of the pipeline, unless it was renumbered.
    pub peer: Option<u32>,
}

/// A rank's spans in a form that travels.
pub fn portable(spans: &[Span]) -> Vec<Portable> {
    let of = |span: &Span| Portable {
        label: span.work.label(),
        begin: span.start.as_secs_f64(),
        end: span.end.as_secs_f64(),
        held: span.held,
        peer: span.work.peer(),
    };
    spans.iter().map(of).collect()
}

impl Chart {
    /// The chart of spans as [`portable`] gives them, by rank. `origin` is when their time zero was, in
    /// nanoseconds since 1970, if that is known.
    pub fn measured(title: String, ranks: Vec<Vec<Portable>>, origin: Option<u64>) -> Self {
        let row = |spans: Vec<Portable>| {
            let held = spans.iter().filter(|span| span.held > 0);
            let held = held.map(|span| (span.end, span.held as f64)).collect();
            let bar = |span: Portable| Bar {
                peer: span.peer,
                ..Bar::new(span.label, span.begin, span.end)
            };
            Row { bars: spans.into_iter().map(bar).collect(), held }
        };
        let ranks = ranks.into_iter().map(row).collect();
        Self { title, is_in_seconds: true, is_in_bytes: true, began: origin, ranks }.finish()
    }

    /// Lets times begin at zero, and counts units if it is not known what ranks held.
    pub(super) fn finish(mut self) -> Self {
        let bars = self.ranks.iter().flat_map(|row| &row.bars);
        let first = bars.map(|bar| bar.begin).fold(f64::INFINITY, f64::min);
        for row in &mut self.ranks {
            for bar in &mut row.bars {
                bar.begin -= first;
                bar.end -= first;
            }
            row.held.iter_mut().for_each(|(at, _)| *at -= first);
        }
        if first.is_finite() {
            let first = (first * 1e9) as u64;
            self.began = self.began.map(|began| began.saturating_add(first));
        }
        self.is_in_bytes = self.ranks.iter().any(|row| !row.held.is_empty());
        if !self.is_in_bytes {
            self.ranks.iter_mut().for_each(Row::count_units);
        }
        self
    }
}
