//! `slimpipe simulate`.

mod draw;
mod job;

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use slimpipe::pipeline::schedule::{Exchange, ScheduleKind, dump_order, verify};
use slimpipe::pipeline::simulate::Outcome;
use slimpipe::train::draw::Chart;

use self::job::Job;

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
    /// Lay a run's timeline.json beside it. Sizes and times that are not given are the run's.
    #[arg(long, value_name = "FILE")]
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

/// A simulated schedule.
struct Simulated {
    job: Job,
    outcome: Outcome,
    chart: Option<Chart>,
}

/// Verifies schedules, simulates them, and prints and draws what comes out.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let measured = args.measured.as_deref().map(Chart::read).transpose()?;
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
        draw::write(charts(), path, args.measured.as_deref())?;
    }
    if args.json {
        let [first, others @ ..] = &all[..] else { return Ok(()) };
        let mut found = object(first);
        if !others.is_empty() {
            found["against"] = others.iter().map(object).collect();
        }
        println!("{found}");
        return Ok(());
    }
    println!("{actions} actions verified and simulated in {took:.2?}");
    all.iter().for_each(print);
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

fn print(Simulated { job, outcome, .. }: &Simulated) {
    println!("\n{}", job.title());
    println!("makespan         {:.3}", outcome.makespan);
    println!("work per rank    {:.3}", work_per_rank(outcome));
    println!("bubble           {:.3} % of the step", 100.0 * outcome.bubble());
    println!("bubble over work {:.5}", outcome.bubble_over_work());
    println!("\nrank  units in flight       busy    idle %");
    for (rank, of) in outcome.ranks.iter().enumerate() {
        let idle = 100.0 * (1.0 - of.busy / outcome.makespan);
        println!("{rank:>4} {:>16} {:>10.3} {idle:>9.2}", of.in_flight_peak, of.busy);
    }
}
