//! Charts as Chrome trace events, which Perfetto opens: a process per chart, and per rank a track for
//! computing, one for waiting and messages, one for what goes on beside them (if anything does), and a counter
//! of what it holds.

use serde_json::{Value, json};

use super::{Chart, Kind};

/// All charts in one trace. A time unit of a simulation's own is shown as a millisecond.
pub fn perfetto(charts: &[Chart]) -> Value {
    let mut events = Vec::new();
    for (process, chart) in charts.iter().enumerate() {
        let name = json!({"name": chart.title});
        events.push(json!({"ph": "M", "name": "process_name", "pid": process, "args": name}));
        let micros = if chart.is_in_seconds { 1e6 } else { 1e3 };
        for (rank, row) in chart.ranks.iter().enumerate() {
            // Ranks can be told from the numbers of the first two tracks; the third one's follow on all.
            let beside = 2 * chart.ranks.len() + rank;
            let has_beside = row.bars.iter().any(|bar| bar.kind == Kind::Beside);
            let tracks = [(2 * rank, "compute"), (2 * rank + 1, "messages"), (beside, "data")];
            for (track, name) in tracks.into_iter().take(2 + usize::from(has_beside)) {
                let name = json!({"name": format!("rank {rank} {name}")});
                let index = json!({"sort_index": track});
                let mut track = |what, args| {
                    events.push(json!({"ph": "M", "name": what, "pid": process, "tid": track, "args": args}));
                };
                track("thread_name", name);
                track("thread_sort_index", index);
            }
            for bar in &row.bars {
                let (track, args) = match bar.kind {
                    Kind::Beside => (beside, json!({"rank": rank})),
                    kind => (2 * rank + usize::from(!kind.is_compute()), json!({})),
                };
                let (start, duration) = (bar.begin * micros, (bar.end - bar.begin) * micros);
                events.push(json!({"ph": "X", "name": bar.label, "pid": process, "tid": track, "ts": start, "dur": duration, "args": args}));
            }
            let held = if chart.is_in_bytes { "bytes" } else { "units in flight" };
            let name = format!("rank {rank} {held}");
            for (at, amount) in &row.held {
                let args = json!({"rank": rank, held: amount});
                events.push(json!({"ph": "C", "name": name, "pid": process, "ts": at * micros, "args": args}));
            }
        }
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms"})
}
