//! What is simulated: a schedule of some size, and what its units cost.

use anyhow::bail;
use slimpipe::pipeline::schedule::{Schedule, ScheduleKind};
use slimpipe::pipeline::simulate::{Costs, Equal, Growing, Outcome, simulate};
use slimpipe::train::draw::{Bar, Chart, Kind, simulated};

use super::{Args, Simulated, size};
use crate::cli::flags::in_flags;

/// The part of a Llama's linear work that makes queries, keys and values: 3 of 12 with as many heads
/// for keys as for queries and a hidden layer of 8/3 widths.
const PROJECTIONS: f64 = 0.25;

/// The settings that schedules name, by the flags there are here.
const FLAGS: [(&str, &str); 8] = [
    ("set parallel.vocabulary to false", "leave out --vocabulary"),
    ("parallel.pipeline", "--ranks"),
    ("parallel.slices", "--slices"),
    ("train.microbatches", "--microbatches"),
    ("parallel.chunks", "--chunks"),
    ("parallel.schedule", "--schedule"),
    ("parallel.exchange", "--exchange"),
    ("the slimpipe schedule", "--schedule slimpipe"),
];

/// Refuses times that floating point cannot hold, or not the sum of over all ranks.
fn finite(outcome: Outcome) -> anyhow::Result<Outcome> {
    let all = outcome.makespan * outcome.ranks.len() as f64;
    if !all.is_finite() {
        bail!(
            "the step takes longer than a number can say; lower --forward, --backward or --attention"
        );
    }
    Ok(outcome)
}

/// A schedule and the costs of its units.
#[derive(Clone)]
pub struct Job {
    /// The schedule.
    pub schedule: Schedule,
    costs: Growing,
    /// Whether times are in seconds; or else in whatever the arguments mean.
    pub is_in_seconds: bool,
}

impl Job {
    /// What the arguments say, or, where they say nothing, a measured run.
    pub fn new(args: &Args, measured: Option<&Chart>) -> anyhow::Result<Self> {
        let found = measured.map(Measured::of).transpose()?;
        let size = |given: Option<u32>, of: fn(&Measured) -> u32| {
            given.unwrap_or_else(|| found.as_ref().map_or(1, of))
        };
        let time = |given: Option<f64>, of: fn(&Measured) -> f64, else_: f64| {
            given.unwrap_or_else(|| found.as_ref().map_or(else_, of))
        };
        let schedule = Schedule::new(
            args.schedule,
            size(args.ranks, |run| run.ranks),
            size(args.slices, |run| run.slices),
            size(args.microbatches, |run| run.microbatches),
            size(args.chunks, |run| run.chunks),
        );
        let schedule = in_flags(schedule, &FLAGS)?;
        size::check(&schedule)?;
        let costs = Growing {
            forward: time(args.forward, |run| run.forward, 1.0),
            backward: time(args.backward, |run| run.backward, 2.0),
            attention: args.attention.unwrap_or(0.0),
            layers: (args.layers > 0).then_some(args.layers),
            projections: PROJECTIONS,
        };
        let schedule = schedule.with_exchange(args.exchange);
        let schedule = schedule.and_then(|schedule| schedule.with_vocabulary(args.vocabulary));
        let schedule = in_flags(schedule, &FLAGS)?;
        Ok(Self { schedule, costs, is_in_seconds: found.is_some() })
    }

    /// The same work by another schedule, cut as finely as it can be, at most as finely as here.
    pub fn like(&self, kind: ScheduleKind) -> anyhow::Result<Self> {
        let (n, v) = (self.schedule.slices(), self.schedule.chunks());
        let (p, m) = (self.schedule.ranks(), self.schedule.microbatches());
        let sizes = [(n, v), (n, 1), (1, v), (1, 1), (1, 2)];
        let with = |(n, v)| Schedule::new(kind, p, n, m, v);
        let found = sizes.into_iter().find_map(|size| Some((size, with(size).ok()?)));
        let Some(((slices, chunks), schedule)) = found else {
            let why = in_flags(with((1, 1)), &FLAGS).unwrap_err();
            bail!("{kind} cannot run {m} microbatches on {p} ranks: {why}");
        };
        size::check(&schedule)?;
        // Units are so many times as long, and as large a part of a rank's layers.
        let (longer, larger) = (f64::from(n) / f64::from(slices), f64::from(v) / f64::from(chunks));
        let costs = Growing {
            forward: self.costs.forward * longer * larger,
            backward: self.costs.backward * longer * larger,
            attention: self.costs.attention * longer * longer * larger,
            ..self.costs
        };
        Ok(Self { schedule, costs, is_in_seconds: self.is_in_seconds })
    }

    /// Runs it on paper, and charts it if it shall be drawn.
    pub fn simulate(self, is_drawn: bool) -> anyhow::Result<Simulated> {
        let costs @ Growing { forward, backward, attention, .. } = self.costs;
        match attention > 0.0 {
            true => self.simulate_with(&costs, is_drawn),
            false => self.simulate_with(&Equal { forward, backward }, is_drawn),
        }
    }

    fn simulate_with(self, costs: &impl Costs, is_drawn: bool) -> anyhow::Result<Simulated> {
        if !is_drawn {
            let outcome = finite(simulate(&self.schedule, costs)?)?;
            return Ok(Simulated { outcome, job: self, chart: None });
        }
        let (mut chart, outcome) = simulated(self.title(), &self.schedule, costs)?;
        let outcome = finite(outcome)?;
        chart.is_in_seconds = self.is_in_seconds;
        Ok(Simulated { outcome, job: self, chart: Some(chart) })
    }

    /// The schedule and its size.
    pub fn title(&self) -> String {
        let of = &self.schedule;
        let (p, n, m, v) = (of.ranks(), of.slices(), of.microbatches(), of.chunks());
        let exchange = match of.exchange() {
            slimpipe::pipeline::schedule::Exchange::Off => String::new(),
            exchange => format!(", {exchange} exchange"),
        };
        let vocabulary = if of.vocabulary() { ", shared vocabulary" } else { "" };
        format!("{} p={p} n={n} m={m} v={v}{exchange}{vocabulary}", of.kind())
    }
}

/// The size of a measured run, and the mean times of its units.
struct Measured {
    ranks: u32,
    slices: u32,
    microbatches: u32,
    chunks: u32,
    forward: f64,
    backward: f64,
}

impl Measured {
    fn of(chart: &Chart) -> anyhow::Result<Self> {
        let bars = || chart.ranks.iter().flat_map(|row| &row.bars);
        let most = |of: fn(&Bar) -> Option<u32>| bars().filter_map(of).max().map_or(1, |at| at + 1);
        let ranks = chart.ranks.len() as u32;
        let [slices, microbatches, chunks] = [
            most(|bar| Some(bar.unit?.slice)),
            most(|bar| Some(bar.unit?.microbatch)),
            most(|bar| Some(bar.unit?.chunk)),
        ];
        let units =
            f64::from(ranks) * f64::from(slices) * f64::from(microbatches) * f64::from(chunks);
        let mean = |kinds: &[Kind]| {
            let all = bars().filter(|bar| kinds.contains(&bar.kind));
            all.map(|bar| bar.end - bar.begin).sum::<f64>() / units
        };
        let forward = mean(&[Kind::Forward]);
        let backward = mean(&[Kind::Backward, Kind::BackwardInput, Kind::BackwardWeight]);
        if forward <= 0.0 || backward <= 0.0 {
            bail!("{}: it has no forward and backward of a unit", chart.title);
        }
        Ok(Self { ranks, slices, microbatches, chunks, forward, backward })
    }
}
