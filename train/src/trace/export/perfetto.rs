//! Logs as Chrome trace events: a process for each rank, with a track of its phases and counters of what it
//! holds; of the run's last step also tracks of what it did, with arrows from sends to receives.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};
use slimpipe_allocator::{Phase, Region, UnitId};
use slimpipe_pipeline::schedule::Unit;

use super::super::{Event, Playback, What};
use super::{Cut, ExportError, note_cut};
use crate::draw::{ACTIVE_BYTES, ALL_REGIONS, Chart, PHASE, Track, bars, label};

/// The track of phases; those of the timeline follow.
const PHASES: u32 = 0;

fn thread(track: Track) -> u32 {
    PHASES + 1 + track as u32
}

/// Writes the trace.
pub(super) fn write(
    logs: &[PathBuf],
    timeline: Option<&Chart>,
    out: &mut impl Write,
) -> Result<Vec<Cut>, ExportError> {
    let (mut cuts, mut ranks) = (Vec::new(), Vec::new());
    // All ranks on one clock, that of the earliest: microseconds since 1970 are too many for a float.
    let mut begin = u64::MAX;
    for path in logs {
        let log = Playback::open(path)?;
        begin = begin.min(log.began());
        ranks.push(log.rank());
    }
    ranks.dedup();
    let about = json!({"began_ns": begin, "process_per_rank": true});
    write!(out, r#"{{"displayTimeUnit":"ms","otherData":{about},"traceEvents":["#)?;
    let mut events = Events { out, is_first: true, line: String::new() };
    for &rank in &ranks {
        events.name_tracks(rank, timeline.is_some())?;
    }
    for path in logs {
        let mut log = Playback::open(path)?;
        events.log(&mut log, begin)?;
        note_cut(&log, &mut cuts);
    }
    if let Some(chart) = timeline {
        events.timeline(chart.clone(), &ranks, begin)?;
    }
    events.out.write_all(b"\n]}\n")?;
    Ok(cuts)
}

struct Events<'a, W> {
    out: &'a mut W,
    is_first: bool,
    /// What the next event is written into.
    line: String,
}

/// A phase that has begun: whose, and when, in nanoseconds.
struct Running {
    unit: UnitId,
    phase: Phase,
    begin: u64,
}

impl<W: Write> Events<'_, W> {
    fn put(&mut self, event: &Value) -> Result<(), ExportError> {
        self.begin_event();
        let _ = write!(self.line, "{event}");
        self.end_event()
    }

    fn begin_event(&mut self) {
        self.line.clear();
        self.line.push_str(if std::mem::take(&mut self.is_first) { "\n" } else { ",\n" });
    }

    fn end_event(&mut self) -> Result<(), ExportError> {
        Ok(self.out.write_all(self.line.as_bytes())?)
    }

    fn name_tracks(&mut self, rank: u32, has_timeline: bool) -> Result<(), ExportError> {
        let name = |what: &str, name: &str| json!({"ph": "M", "name": what, "pid": rank, "args": {"name": name}});
        self.put(&name("process_name", &format!("rank {rank}")))?;
        let timeline = Track::ALL.into_iter().filter(|_| has_timeline);
        let tracks = timeline.map(|track| (thread(track), track.name()));
        for (tid, track) in [(PHASES, "phases")].into_iter().chain(tracks) {
            let mut event = name("thread_name", track);
            event["tid"] = json!(tid);
            self.put(&event)?;
        }
        Ok(())
    }

    /// A log's events. Time zero is at `begin`, in nanoseconds since 1970.
    fn log(&mut self, log: &mut Playback, begin: u64) -> Result<(), ExportError> {
        let since = log.began() - begin;
        let (mut running, mut time) = (None, 0);
        while let Some(event) = log.next()? {
            time = since.saturating_add(event.time);
            match event.what {
                What::Phase(unit, phase) => running = Some(Running { unit, phase, begin: time }),
                What::PhaseEnded(..) => {
                    if let Some(running) = running.take() {
                        self.phase(&running, log, time)?;
                    }
                }
                _ => self.event(&event, log, time)?,
            }
        }
        // Of a log that was cut, or of a run that ended so.
        match running {
            Some(running) => self.phase(&running, log, time),
            None => Ok(()),
        }
    }

    /// What `ranks` did in the step of the chart.
    fn timeline(&mut self, mut chart: Chart, ranks: &[u32], begin: u64) -> Result<(), ExportError> {
        for (rank, row) in (0..).zip(&mut chart.ranks) {
            if !ranks.contains(&rank) {
                row.bars.clear();
            }
        }
        let since = i128::from(chart.began.unwrap_or(begin)) - i128::from(begin);
        let micros = |at: f64| since as f64 / 1e3 + at * 1e6;
        let mut all = Vec::new();
        bars(&chart, |rank, track| (rank, thread(track)), micros, |event| all.push(event));
        all.iter().try_for_each(|event| self.put(event))
    }

    fn event(&mut self, event: &Event, log: &Playback, time: u64) -> Result<(), ExportError> {
        let (rank, memory) = (log.rank(), log.memory());
        match event.what {
            What::Alloc(block) => self.active(log, block.region, time),
            What::Free { region, .. } => self.active(log, region, time),
            What::Committed { region, .. } => {
                let reserved = memory.region(region).reserved().current;
                let all = (ALL_REGIONS, memory.reserved().current);
                self.counter(rank, "reserved bytes", &[all, (region.name(), reserved)], time)
            }
            What::UnitOpened(_) | What::UnitClosed(_) => {
                let units = memory.units().current;
                self.counter(rank, "units", &[("in flight", units)], time)
            }
            What::Step(step) => self.instant(rank, format!("step {step}"), json!({}), time),
            What::Refused { bytes, name } => {
                let name = log.name(name);
                let args = json!({ "bytes": bytes, "op": name.op(), "site": name.site() });
                self.instant(rank, "out of memory".to_owned(), args, time)
            }
            _ => Ok(()),
        }
    }

    fn phase(&mut self, running: &Running, log: &Playback, end: u64) -> Result<(), ExportError> {
        let UnitId { microbatch, slice, chunk } = running.unit;
        let words = match running.phase {
            Phase::Forward => "F",
            Phase::Backward => "B",
            Phase::Weight => "W",
        };
        let event = json!({
            "ph": "X", "cat": PHASE, "name": label(words, Unit { microbatch, slice, chunk }),
            "pid": log.rank(), "tid": PHASES,
            "ts": running.begin as f64 / 1e3, "dur": (end - running.begin) as f64 / 1e3,
            "args": {"step": log.memory().step()},
        });
        self.put(&event)
    }

    fn active(&mut self, log: &Playback, region: Region, time: u64) -> Result<(), ExportError> {
        let memory = log.memory();
        let active = memory.region(region).active().current;
        let all = (ALL_REGIONS, memory.active().current);
        self.counter(log.rank(), ACTIVE_BYTES, &[all, (region.name(), active)], time)
    }

    /// Of several numbers Perfetto makes a counter each. Most of a trace is this: written without a tree of
    /// values. The names hold nothing to escape.
    fn counter(
        &mut self,
        rank: u32,
        name: &str,
        values: &[(&str, u64)],
        time: u64,
    ) -> Result<(), ExportError> {
        self.begin_event();
        let (micros, rest) = (time / 1000, time % 1000);
        let line = &mut self.line;
        let _ = write!(
            line,
            r#"{{"ph":"C","name":"{name}","pid":{rank},"ts":{micros}.{rest:03},"args":{{"#
        );
        for (at, (name, value)) in values.iter().enumerate() {
            let between = if at > 0 { "," } else { "" };
            let _ = write!(line, r#"{between}"{name}":{value}"#);
        }
        line.push_str("}}");
        self.end_event()
    }

    fn instant(
        &mut self,
        rank: u32,
        name: String,
        args: Value,
        time: u64,
    ) -> Result<(), ExportError> {
        let at = time as f64 / 1e3;
        self.put(&json!({"ph": "i", "s": "p", "name": name, "pid": rank, "tid": PHASES, "ts": at, "args": args}))
    }
}
