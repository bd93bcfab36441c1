//! `slimpipe simulate`.

mod draw;
mod job;
mod size;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use slimpipe::allocator::Bytes;
use slimpipe::pipeline::schedule::{Exchange, ScheduleKind, dump_order, verify};
use slimpipe::pipeline::simulate::Outcome;
use slimpipe::train::draw::{Chart, Row};
use slimpipe::train::trace;

use self::job::Job;
use super::figures::{fixed, seconds};

/// Arguments of `simulate`.
#[derive(clap::Args)]
pub struct Args {
    /// The schedule.
    #[arg(long, default_value = "slimpipe")]
    schedule: ScheduleKind,
    /// Pipeline ranks.
    #[arg(short = 'p', long, value_name = "P", required_unless_present = "measured")]
    ranks: Option<u32>,
    /// Slices per sequence (default: 1).
    #[arg(short = 'n', long, value_name = "N")]
    slices: Option<u32>,
    /// Microbatches per step (default: 1).
    #[arg(short = 'm', long, value_name = "M")]
    microbatches: Option<u32>,
    /// Model chunks per rank (default: 1).
    #[arg(short = 'v', long, value_name = "V")]
    chunks: Option<u32>,
    /// Time of a unit's forward (default: 1).
    #[arg(long, value_name = "TIME", value_parser = time)]
    forward: Option<f64>,
    /// Time of a unit's backward (default: 2).
    #[arg(long, value_name = "TIME", value_parser = time)]
    backward: Option<f64>,
    /// How attention is shared among ranks: off, paper or balanced.
    #[arg(long, value_name = "HOW", default_value_t, requires = "attention")]
    exchange: Exchange,
    /// Share embedding, output layer and loss among all ranks.
    #[arg(long)]
    vocabulary: bool,
    /// Time of a forward's attention to one earlier slice, beside `forward`; in backward 2.5 times as
    /// much.
    #[arg(long, value_name = "TIME", value_parser = time)]
    attention: Option<f64>,
    /// Layers of a unit, in each of which ranks that share attention wait for each other; with 0 the
    /// loads alone count.
    #[arg(long, value_name = "N", default_value_t = 1)]
    layers: usize,
    /// Simulate these schedules too, separated by commas: the same work, in as many slices and chunks
    /// as they can take.
    #[arg(long, value_name = "SCHEDULES", value_delimiter = ',')]
    against: Vec<ScheduleKind>,
    /// Lay a run beside it: its folder, or its timeline.json. Sizes and times that are not given are the run's.
    #[arg(long, value_name = "RUN")]
    measured: Option<PathBuf>,
    /// Draw a page for the browser (.html) or a trace for Perfetto (.json).
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
    /// Draw in the terminal.
    #[arg(long, conflicts_with = "json")]
    gantt: bool,
    /// Print each rank's order of units instead.
    #[arg(long, conflicts_with_all = ["json", "draw", "gantt"])]
    order: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<f64, String> {
    let time: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if time.is_finite() && time > 0.0 { Ok(time) } else { Err("a time is more than 0".to_owned()) }
}

/// The timeline that `path` is, or that the run in that folder left.
fn timeline(path: &Path) -> PathBuf {
    let own = path.join("timeline.json");
    match path.is_dir() {
        true if own.is_file() => own,
        true => trace::timeline(path).unwrap_or(own),
        false => path.to_owned(),
    }
}

/// A simulated schedule.
struct Simulated {
    job: Job,
    outcome: Outcome,
    chart: Option<Chart>,
}

/// Verifies schedules, simulates them, and prints and draws what comes out.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let file = args.measured.as_deref().map(timeline);
    let measured = file.as_deref().map(Chart::read).transpose()?;
    let job = Job::new(args, measured.as_ref())?;
    if args.order {
        let ranks = 0..job.schedule.ranks();
        ranks.for_each(|rank| println!("rank {rank}: {}", dump_order(&job.schedule, rank)));
        return Ok(());
    }
    let others = args.against.iter().map(|kind| job.like(*kind)).collect::<Result<Vec<_>, _>>()?;
    let is_drawn = args.draw.is_some() || args.gantt;
    let begin = Instant::now();
    let mut actions = 0;
    let mut all = Vec::new();
    for job in std::iter::once(job).chain(others) {
        actions += verify(&job.schedule, job.schedule.channel_capacity())?.actions;
        all.push(job.simulate(is_drawn)?);
    }
    let took = begin.elapsed();
    let charts = || all.iter().filter_map(|of| of.chart.clone()).chain(measured.clone()).collect();
    if let Some(path) = &args.draw {
        draw::write(charts(), path, file.as_deref())?;
    }
    if args.json {
        let [first, others @ ..] = &all[..] else { return Ok(()) };
        let mut found = object(first);
        if !others.is_empty() {
            found["against"] = others.iter().map(object).collect();
        }
        if let Some(chart) = &measured {
            found["measured"] = measured_object(chart);
        }
        println!("{found}");
        return Ok(());
    }
    println!("{actions} actions verified and simulated in {took:.2?}");
    all.iter().for_each(print);
    measured.iter().for_each(print_measured);
    if args.gantt {
        println!();
        print!("{}", draw::text(charts()));
    }
    if let Some(path) = &args.draw {
        println!("\nwrote {}", path.display());
    }
    Ok(())
}

fn work_per_rank(outcome: &Outcome) -> f64 {
    outcome.ranks.iter().map(|rank| rank.busy).sum::<f64>() / outcome.ranks.len() as f64
}

fn object(Simulated { job, outcome, .. }: &Simulated) -> Value {
    let peaks: Vec<u64> = outcome.ranks.iter().map(|rank| rank.in_flight_peak).collect();
    json!({
        "schedule": job.schedule.kind().name(),
        "makespan": outcome.makespan,
        "work_per_rank": work_per_rank(outcome),
        "bubble_over_work": outcome.bubble_over_work(),
        "in_flight_peak": peaks,
    })
}

/// What a run did in its last step.
fn measured_object(chart: &Chart) -> Value {
    let busy: f64 = chart.ranks.iter().map(Row::busy).sum();
    let peaks: Vec<u64> = chart.ranks.iter().map(Row::in_flight_peak).collect();
    let mut found = json!({
        "makespan": chart.end(),
        "work_per_rank": busy / chart.ranks.len() as f64,
        "bubble_over_work": chart.end() * chart.ranks.len() as f64 / busy - 1.0,
        "in_flight_peak": peaks,
    });
    if chart.is_in_bytes {
        found["peak_bytes"] = chart.ranks.iter().map(|row| row.peak() as u64).collect();
    }
    found
}

fn print(Simulated { job, outcome, .. }: &Simulated) {
    let time = |of| if job.is_in_seconds { seconds(of) } else { format!("{of:.3}") };
    print_step(
        &job.title(),
        [time(outcome.makespan), time(work_per_rank(outcome))],
        [outcome.bubble(), outcome.bubble_over_work()],
    );
    println!("\nrank  units in flight         busy    idle %");
    for (rank, of) in outcome.ranks.iter().enumerate() {
        let idle = fixed(100.0 * (1.0 - of.busy / outcome.makespan), 2);
        println!("{rank:>4} {:>16} {:>12} {idle:>9}", of.in_flight_peak, time(of.busy));
    }
}

/// The same of a run, with what each rank held at most.
fn print_measured(chart: &Chart) {
    let work = chart.ranks.iter().map(Row::busy).sum::<f64>() / chart.ranks.len() as f64;
    print_step(
        &chart.title,
        [seconds(chart.end()), seconds(work)],
        [chart.bubble(), chart.end() / work - 1.0],
    );
    println!("\nrank  units in flight         busy    idle %        peak");
    for (rank, row) in chart.ranks.iter().enumerate() {
        let idle = fixed(100.0 * (1.0 - row.busy() / chart.end()), 2);
        let peak = match chart.is_in_bytes {
            true => Bytes(row.peak() as u64).to_string(),
            false => "not known".to_owned(),
        };
        let (units, busy) = (row.in_flight_peak(), seconds(row.busy()));
        println!("{rank:>4} {units:>16} {busy:>12} {idle:>9} {peak:>11}");
    }
}

/// Prints a step's makespan and work per rank, and its bubble over both.
fn print_step(title: &str, [makespan, work]: [String; 2], [bubble, over_work]: [f64; 2]) {
    println!("\n{title}");
    println!("makespan         {makespan}");
    println!("work per rank    {work}");
    println!("bubble           {} % of the step", fixed(100.0 * bubble, 3));
    println!("bubble over work {}", fixed(over_work, 5));
}
