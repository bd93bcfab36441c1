//! Charts as Chrome trace events, which Perfetto opens: a process per chart, and per rank a track for
//! computing, one for waiting and messages, one for what goes on beside them (if anything does), and a counter
//! of what it holds. Arrows lead from sends to receives.

use serde_json::{Value, json};

use super::messages::messages;
use super::{Bar, Chart, Kind};

/// The tracks of a rank, each of which does one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Track {
    Compute,
    Messages,
    Data,
}

impl Track {
    pub const ALL: [Self; 3] = [Self::Compute, Self::Messages, Self::Data];

    fn of(bar: &Bar) -> Self {
        match bar.kind {
            Kind::Beside => Self::Data,
            kind if kind.is_compute() => Self::Compute,
            _ => Self::Messages,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Messages => "messages",
            Self::Data => "data",
        }
    }
}

/// All charts in one trace. A time unit of a simulation's own is shown as a millisecond.
pub fn perfetto(charts: &[Chart]) -> Value {
    let mut events = Vec::new();
    for (process, chart) in charts.iter().enumerate() {
        let name = json!({"name": chart.title});
        events.push(json!({"ph": "M", "name": "process_name", "pid": process, "args": name}));
        let micros = if chart.is_in_seconds { 1e6 } else { 1e3 };
        // Ranks can be told from the numbers of the first two tracks; the third one's follow on all.
        let ranks = chart.ranks.len() as u32;
        let track = |rank: u32, track| match track {
            Track::Compute => 2 * rank,
            Track::Messages => 2 * rank + 1,
            Track::Data => 2 * ranks + rank,
        };
        for (rank, row) in (0..).zip(&chart.ranks) {
            let has_data = row.bars.iter().any(|bar| bar.kind == Kind::Beside);
            for which in Track::ALL.into_iter().take(2 + usize::from(has_data)) {
                let name = json!({"name": format!("rank {rank} {}", which.name())});
                let index = json!({"sort_index": track(rank, which)});
                for (what, args) in [("thread_name", name), ("thread_sort_index", index)] {
                    events.push(json!({"ph": "M", "name": what, "pid": process, "tid": track(rank, which), "args": args}));
                }
            }
        }
        let place = |rank, which| (process as u32, track(rank, which));
        bars(chart, place, |at| at * micros, |event| events.push(event));
        for (rank, row) in chart.ranks.iter().enumerate() {
            let held = if chart.is_in_bytes { "bytes" } else { "units in flight" };
            let name = format!("rank {rank} {held}");
            for (at, amount) in &row.held {
                let args = json!({"rank": rank, held: amount});
                events.push(json!({"ph": "C", "name": name, "pid": process, "ts": at * micros, "args": args}));
            }
        }
    }
    let mut trace = json!({"traceEvents": events, "displayTimeUnit": "ms"});
    if let Some(began) = charts.first().and_then(|chart| chart.began) {
        trace["otherData"] = json!({"began_ns": began});
    }
    trace
}

/// The bars of a chart, and arrows from sends to receives. `place` gives the process and the thread of a rank's
/// track, `micros` a time in microseconds.
pub(crate) fn bars(
    chart: &Chart,
    place: impl Fn(u32, Track) -> (u32, u32),
    micros: impl Fn(f64) -> f64,
    mut put: impl FnMut(Value),
) {
    for (rank, row) in (0..).zip(&chart.ranks) {
        for bar in &row.bars {
            let track = Track::of(bar);
            let (pid, tid) = place(rank, track);
            let args = match (track, bar.peer) {
                (Track::Data, _) => json!({"rank": rank}),
                (_, Some(peer)) => json!({"peer": peer}),
                _ => json!({}),
            };
            let (start, duration) = (micros(bar.begin), micros(bar.end) - micros(bar.begin));
            put(
                json!({"ph": "X", "name": bar.label, "pid": pid, "tid": tid, "ts": start, "dur": duration, "args": args}),
            );
        }
    }
    for (id, message) in (1..).zip(messages(chart)) {
        let ends = [
            ("s", message.from, micros(message.sent)),
            // The last nanosecond of the bar, so that the arrow ends in it.
            ("f", message.to, micros(message.received) - 1e-3),
        ];
        for (phase, rank, at) in ends {
            let (pid, tid) = place(rank, Track::Messages);
            let mut event = json!({"ph": phase, "id": id, "name": message.what, "cat": "message", "pid": pid, "tid": tid, "ts": at});
            if phase == "f" {
                event["bp"] = json!("e");
            }
            put(event);
        }
    }
}
