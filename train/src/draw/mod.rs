//! Charts of what ranks do and hold over time: simulated schedules and measured timelines in the same
//! pictures, so that one can be laid over the other.
//!
//! A [`Chart`] comes from a simulation ([`simulated`]), from a run's `timeline.json` or from an export of its
//! memory logs for Perfetto ([`Chart::read`]), and goes to a page for the browser ([`page()`]), to Perfetto ([`perfetto`]) or to
//! the terminal ([`terminal`]).

mod bar;
mod measured;
mod messages;
mod page;
mod perfetto;
mod read;
mod simulated;
mod terminal;

use std::collections::HashMap;

use slimpipe_pipeline::schedule::Unit;

pub(crate) use bar::label;
pub use bar::{Bar, Kind};
pub use measured::{Portable, portable};
pub use page::{TooLarge, page};
pub use perfetto::perfetto;
pub(crate) use perfetto::{Track, bars};
pub use read::ReadError;
pub(crate) use read::{ACTIVE_BYTES, ALL_REGIONS, PHASE};
pub use simulated::simulated;
pub use terminal::terminal;

/// What each rank did and held, with times since the first begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it shows, in a line.
    pub title: String,
    /// Whether times are in seconds; or else in units of the simulation's own.
    pub is_in_seconds: bool,
    /// Whether what is held is in bytes; or else in units in flight.
    pub is_in_bytes: bool,
    /// When its time zero was, in nanoseconds since 1970; `None` if it never was or is not known.
    pub began: Option<u64>,
    /// By rank.
    pub ranks: Vec<Row>,
}

/// One rank's part of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// What it did, in the order in which it ended.
    pub bars: Vec<Bar>,
    /// What it held from each of these times on: time and amount, in order.
    pub held: Vec<(f64, f64)>,
}

impl Row {
    /// The time it computed.
    pub fn busy(&self) -> f64 {
        let computing = self.bars.iter().filter(|bar| bar.kind.is_compute());
        computing.map(|bar| bar.end - bar.begin).sum()
    }

    /// The most it held.
    pub fn peak(&self) -> f64 {
        self.held.iter().map(|(_, held)| *held).fold(0.0, f64::max)
    }

    /// The most units in flight.
    pub fn in_flight_peak(&self) -> u64 {
        self.units_in_flight().into_iter().map(|(_, units)| units as u64).max().unwrap_or(0)
    }

    /// Lets it hold its units in flight.
    fn count_units(&mut self) {
        self.held = self.units_in_flight();
    }

    /// Units in flight from each of these times on: a unit is, from its first forward to the end of its
    /// last backward, which may each have come in pieces.
    fn units_in_flight(&self) -> Vec<(f64, f64)> {
        let mut units: HashMap<Unit, (f64, f64)> = HashMap::new();
        for bar in &self.bars {
            let Some(unit) = bar.unit else { continue };
            match bar.kind {
                Kind::Forward => _ = units.entry(unit).or_insert((bar.begin, f64::INFINITY)),
                Kind::Backward | Kind::BackwardWeight => {
                    units.entry(unit).or_insert((0.0, bar.end)).1 = bar.end;
                }
                _ => {}
            }
        }
        let ends = units.into_values();
        let mut changes: Vec<(f64, f64)> = ends.flat_map(|(a, b)| [(a, 1.0), (b, -1.0)]).collect();
        // A unit that ends as another begins ends first.
        changes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        changes.retain(|(at, _)| at.is_finite());
        let (mut held, mut all) = (0.0, Vec::<(f64, f64)>::new());
        for (at, change) in changes {
            held += change;
            match all.last_mut() {
                Some(last) if last.0 == at => last.1 = held,
                _ => all.push((at, held)),
            }
        }
        all
    }
}

impl Chart {
    /// When the last rank ended.
    pub fn end(&self) -> f64 {
        let ends = self.ranks.iter().flat_map(|row| row.bars.last()).map(|bar| bar.end);
        ends.fold(0.0, f64::max)
    }

    /// The part of all ranks' time in which they did not compute.
    pub fn bubble(&self) -> f64 {
        let all = self.end() * self.ranks.len() as f64;
        let busy: f64 = self.ranks.iter().map(Row::busy).sum();
        if all > 0.0 { 1.0 - busy / all } else { 0.0 }
    }
}
