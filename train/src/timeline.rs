//! A measured timeline as Chrome trace events, which Perfetto opens: one process, a track per rank
//! for computing and one for waiting and messages.

use serde_json::{Value, json};
use slimpipe_pipeline::execute::Span;

/// The events of all ranks' spans, by rank.
pub fn chrome_trace(ranks: &[Vec<(String, bool, f64, f64)>]) -> Value {
    let mut events =
        vec![json!({"ph": "M", "name": "process_name", "pid": 0, "args": {"name": "slimpipe"}})];
    for (rank, spans) in ranks.iter().enumerate() {
        for (track, name) in [(2 * rank, "compute"), (2 * rank + 1, "messages")] {
            let name = format!("rank {rank} {name}");
            events.push(json!({"ph": "M", "name": "thread_name", "pid": 0, "tid": track, "args": {"name": name}}));
            events.push(json!({"ph": "M", "name": "thread_sort_index", "pid": 0, "tid": track, "args": {"sort_index": track}}));
        }
        for (name, is_compute, start, duration) in spans {
            let track = 2 * rank + usize::from(!is_compute);
            events.push(json!({"ph": "X", "name": name, "pid": 0, "tid": track, "ts": start, "dur": duration}));
        }
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms"})
}

/// Spans in a form that travels: label, whether it is computing, start and duration in microseconds.
pub fn portable(spans: &[Span]) -> Vec<(String, bool, f64, f64)> {
    let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
    spans
        .iter()
        .map(|span| {
            let (start, end) = (micros(span.start), micros(span.end));
            (span.work.label(), span.work.is_compute(), start, end - start)
        })
        .collect()
}
