//! Logs as Chrome trace events: a process for each rank, with a track of its phases and counters of
//! what it holds.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};
use slimpipe_allocator::Region;

use super::super::{Event, Playback, Replay, What};
use super::row::phase_name;
use super::{Cut, ExportError, note_cut};

/// The track of phases.
const PHASES: u32 = 0;

/// Writes the trace.
pub(super) fn write(logs: &[PathBuf], out: &mut impl Write) -> Result<Vec<Cut>, ExportError> {
    let mut cuts = Vec::new();
    // All ranks on one clock, that of the earliest: microseconds since 1970 are too many for a float.
    let mut begin = u64::MAX;
    for path in logs {
        begin = begin.min(Playback::open(path)?.began());
    }
    out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    let (mut events, mut named) = (Events { out, is_first: true }, None);
    for path in logs {
        let mut log = Playback::open(path)?;
        let rank = log.rank();
        if named.replace(rank) != Some(rank) {
            let process = json!({ "name": format!("rank {rank}") });
            events.put(json!({"ph": "M", "name": "process_name", "pid": rank, "args": process}))?;
            let track = json!({ "name": "phases" });
            events.put(json!({"ph": "M", "name": "thread_name", "pid": rank, "tid": PHASES, "args": track}))?;
        }
        let since = log.began() - begin;
        let (mut running, mut time) = (false, 0.0);
        while let Some(event) = log.next()? {
            time = since.saturating_add(event.time) as f64 / 1e3;
            events.put_event(&event, &log, time)?;
            match event.what {
                What::Phase(..) => running = true,
                What::PhaseEnded(..) => running = false,
                _ => {}
            }
        }
        // Of a log that was cut, or of a run that ended so.
        if running {
            events.put(json!({"ph": "E", "pid": rank, "tid": PHASES, "ts": time}))?;
        }
        note_cut(&log, &mut cuts);
    }
    events.out.write_all(b"\n]}\n")?;
    Ok(cuts)
}

struct Events<'a, W> {
    out: &'a mut W,
    is_first: bool,
}

impl<W: Write> Events<'_, W> {
    fn put(&mut self, event: Value) -> Result<(), ExportError> {
        let between: &[u8] = if std::mem::take(&mut self.is_first) { b"\n" } else { b",\n" };
        self.out.write_all(between)?;
        Ok(serde_json::to_writer(&mut *self.out, &event).map_err(std::io::Error::from)?)
    }

    fn put_event(&mut self, event: &Event, log: &Playback, time: f64) -> Result<(), ExportError> {
        let (rank, memory) = (log.rank(), log.memory());
        match event.what {
            What::Alloc(block) => self.active(rank, memory, block.region, time),
            What::Free { region, .. } => self.active(rank, memory, region, time),
            What::Committed { region, .. } => {
                self.counter(rank, "reserved", memory.reserved().current, time)?;
                let reserved = memory.region(region).reserved().current;
                self.counter(rank, &format!("reserved, {region}"), reserved, time)
            }
            What::UnitOpened(_) | What::UnitClosed(_) => {
                self.counter(rank, "units in flight", memory.units().current, time)
            }
            What::Phase(unit, phase) => {
                let name = format!("{} {unit}", phase_name(phase));
                let args = json!({
                    "microbatch": unit.microbatch, "slice": unit.slice, "chunk": unit.chunk,
                    "step": memory.step(),
                });
                self.put(json!({"ph": "B", "name": name, "pid": rank, "tid": PHASES, "ts": time, "args": args}))
            }
            What::PhaseEnded(..) => {
                self.put(json!({"ph": "E", "pid": rank, "tid": PHASES, "ts": time}))
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

    fn active(
        &mut self,
        rank: u32,
        memory: &Replay,
        region: Region,
        time: f64,
    ) -> Result<(), ExportError> {
        self.counter(rank, "active", memory.active().current, time)?;
        let active = memory.region(region).active().current;
        self.counter(rank, &format!("active, {region}"), active, time)
    }

    fn counter(&mut self, rank: u32, name: &str, value: u64, time: f64) -> Result<(), ExportError> {
        let unit = if name == "units in flight" { "units" } else { "bytes" };
        // Most of a trace is this: written without a tree of values. The names hold nothing to escape.
        let between = if std::mem::take(&mut self.is_first) { "\n" } else { ",\n" };
        Ok(write!(
            self.out,
            r#"{between}{{"ph":"C","name":"{name}","pid":{rank},"ts":{time:.3},"args":{{"{unit}":{value}}}}}"#
        )?)
    }

    fn instant(
        &mut self,
        rank: u32,
        name: String,
        args: Value,
        time: f64,
    ) -> Result<(), ExportError> {
        self.put(json!({"ph": "i", "s": "p", "name": name, "pid": rank, "tid": PHASES, "ts": time, "args": args}))
    }
}
