//! Charts read from Chrome trace events: a run's `timeline.json`, or an export of its memory logs for Perfetto.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Bar, Chart, Row};

/// A file that is not a timeline.
#[derive(Debug, thiserror::Error)]
#[error("{path} is no timeline of a run: {reason}")]
pub struct ReadError {
    path: String,
    reason: String,
}

/// The category of phases, which an export has for all of a run beside the spans of its last step.
pub(crate) const PHASE: &str = "phase";
/// The counter of an export that a chart shows, and which of its numbers.
pub(crate) const ACTIVE_BYTES: &str = "active bytes";
pub(crate) const ALL_REGIONS: &str = "all regions";
/// More than anyone has: a larger number in a file is damage.
const MOST_RANKS: usize = 1 << 16;
/// Microseconds: since 1970 there were fewer.
const LONGEST: f64 = 1e17;
/// Bytes, to which floats can count.
const MOST_HELD: f64 = 9e15;

/// What a file says of itself.
#[derive(Default, Deserialize)]
struct About {
    began_ns: Option<u64>,
    /// Whether processes are ranks, as in exports; or else charts, whose tracks are of ranks.
    #[serde(default)]
    process_per_rank: bool,
}

/// What is read of an event.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    ph: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    cat: Cow<'a, str>,
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
    peer: Option<u32>,
    bytes: Option<f64>,
    #[serde(rename = "all regions")]
    all: Option<f64>,
}

/// A file as far as it has been read.
#[derive(Default)]
struct Found {
    about: About,
    spans: Vec<Row>,
    /// With what ranks held.
    phases: Vec<Row>,
}

impl Found {
    /// Takes in an event.
    fn add(&mut self, event: Event<'_>) -> Result<(), String> {
        let Event { ph, name, cat, pid, tid, ts, dur, args } = event;
        let rank = match self.about.process_per_rank {
            true => pid,
            false if pid == 0 => args.rank.unwrap_or(tid / 2),
            // Another chart in the same file.
            false => return Ok(()),
        };
        let held = match self.about.process_per_rank {
            true => args.all.filter(|_| name == ACTIVE_BYTES),
            false => args.rank.and(args.bytes),
        };
        let is_span = match &*ph {
            "X" => true,
            "C" if held.is_some() => false,
            _ => return Ok(()),
        };
        let rank = usize::try_from(rank).unwrap_or(usize::MAX);
        if rank >= MOST_RANKS {
            return Err(format!("{name} is of rank {rank}"));
        }
        if !(ts.abs() <= LONGEST && (0.0..=LONGEST).contains(&dur)) {
            return Err(format!("{name} has no duration"));
        }
        let held = held.unwrap_or_default();
        if !(0.0..=MOST_HELD).contains(&held) {
            return Err(format!("{name} is {held}"));
        }
        let rows = if is_span && cat != PHASE { &mut self.spans } else { &mut self.phases };
        if rank >= rows.len() {
            rows.resize_with(rank + 1, Row::default);
        }
        if is_span {
            let bar = Bar::new(name.into_owned(), ts / 1e6, (ts + dur) / 1e6);
            rows[rank].bars.push(Bar { peer: args.peer, ..bar });
        } else {
            rows[rank].held.push((ts / 1e6, held));
        }
        Ok(())
    }

    /// The chart of its spans, or of phases where there are no spans.
    fn finish(self, path: &Path) -> Result<Chart, String> {
        let Self { about, spans, phases } = self;
        let (what, mut ranks, mut others) = match spans.is_empty() {
            true => ("forwards and backwards, waits included", phases, spans),
            false => ("measured", spans, phases),
        };
        if ranks.iter().all(|row| row.bars.is_empty()) {
            return Err("it has no spans".to_owned());
        }
        let count = ranks.len().max(others.len());
        ranks.resize_with(count, Row::default);
        for (row, other) in ranks.iter_mut().zip(&mut others) {
            row.held.append(&mut other.held);
        }
        for row in &mut ranks {
            // In the order in which they ended, as whoever writes them has them.
            row.bars.sort_by(|a, b| a.end.total_cmp(&b.end));
            row.held.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let title = format!("{what}: {}", path.display());
        let began = about.began_ns;
        Ok(Chart { title, is_in_seconds: true, is_in_bytes: true, began, ranks }.finish())
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = Found;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with traceEvents")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
                let (mut found, mut has_events) = (Found::default(), false);
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    match &*key {
                        "traceEvents" => {
                            map.next_value_seed(Events(&mut found))?;
                            has_events = true;
                        }
                        "otherData" => found.about = map.next_value()?,
                        _ => _ = map.next_value::<IgnoredAny>()?,
                    }
                }
                if has_events { Ok(found) } else { Err(A::Error::missing_field("traceEvents")) }
            }
        }
        from.deserialize_map(Whole)
    }
}

/// Takes in events one by one: there can be millions, most of which a chart does not show.
struct Events<'a>(&'a mut Found);

impl<'de> DeserializeSeed<'de> for Events<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Events<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        while let Some(event) = events.next_element()? {
            self.0.add(event).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

impl Chart {
    /// The chart in a run's `timeline.json`, or in an export of its memory logs for Perfetto. An export of a
    /// run that left no timeline has phases only.
    ///
    /// # Errors
    /// A file that cannot be read or is none.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let failed = |reason: String| ReadError { path: path.display().to_string(), reason };
        let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let found: Found =
            serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        found.finish(path).map_err(failed)
    }
}
