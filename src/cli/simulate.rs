//! `slimpipe simulate`.

use std::num::NonZeroUsize;
use std::time::Instant;

use serde_json::json;
use slimpipe::pipeline::schedule::{
    Exchange, Schedule, ScheduleError, ScheduleKind, dump_order, verify,
};
use slimpipe::pipeline::simulate::{Equal, Growing, Outcome, simulate};

/// Arguments of `simulate`.
#[derive(clap::Args)]
pub struct Args {
    /// The schedule.
    #[arg(long, default_value = "slimpipe")]
    schedule: ScheduleKind,
    /// Pipeline ranks.
    #[arg(short = 'p', long, value_name = "P")]
    ranks: u32,
    /// Slices per sequence.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1)]
    slices: u32,
    /// Microbatches per step.
    #[arg(short = 'm', long, value_name = "M", default_value_t = 1)]
    microbatches: u32,
    /// Model chunks per rank.
    #[arg(short = 'v', long, value_name = "V", default_value_t = 1)]
    chunks: u32,
    /// Time of a unit's forward.
    #[arg(long, value_name = "TIME", default_value_t = 1.0, value_parser = time)]
    forward: f64,
    /// Time of a unit's backward.
    #[arg(long, value_name = "TIME", default_value_t = 2.0, value_parser = time)]
    backward: f64,
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
    /// Layers of a unit, in each of which ranks that share attention wait for each other; without, the
    /// loads alone count.
    #[arg(long, value_name = "N", requires = "attention")]
    layers: Option<NonZeroUsize>,
    /// Print each rank's order of units instead.
    #[arg(long, conflicts_with = "json")]
    order: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<f64, String> {
    let time: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if time.is_finite() && time > 0.0 { Ok(time) } else { Err("a time is more than 0".to_owned()) }
}

/// The part of a Llama's linear work that makes queries, keys and values: 3 of 12 with as many heads
/// for keys as for queries and a hidden layer of 8/3 widths.
const PROJECTIONS: f64 = 0.25;

fn simulated(args: &Args, schedule: &Schedule) -> Result<Outcome, ScheduleError> {
    let Args { forward, backward, layers, .. } = *args;
    match args.attention {
        None => simulate(schedule, &Equal { forward, backward }),
        Some(attention) => {
            let layers = layers.map(NonZeroUsize::get);
            let costs = Growing { forward, backward, attention, layers, projections: PROJECTIONS };
            simulate(schedule, &costs)
        }
    }
}

/// Verifies a schedule and simulates it.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let Args { schedule, ranks, slices, microbatches, chunks, .. } = *args;
    let schedule = Schedule::new(schedule, ranks, slices, microbatches, chunks)?
        .with_exchange(args.exchange)?
        .with_vocabulary(args.vocabulary)?;
    if args.order {
        (0..ranks).for_each(|rank| println!("rank {rank}: {}", dump_order(&schedule, rank)));
        return Ok(());
    }
    let begin = Instant::now();
    let report = verify(&schedule, schedule.channel_capacity())?;
    let outcome = simulated(args, &schedule)?;
    let work = outcome.ranks.iter().map(|rank| rank.busy).sum::<f64>() / f64::from(ranks);
    if args.json {
        let peaks: Vec<u64> = outcome.ranks.iter().map(|rank| rank.in_flight_peak).collect();
        let found = json!({
            "makespan": outcome.makespan,
            "work_per_rank": work,
            "bubble_over_work": outcome.bubble_over_work(),
            "in_flight_peak": peaks,
        });
        println!("{found}");
        return Ok(());
    }
    println!(
        "{} p={ranks} n={slices} m={microbatches} v={chunks}: {} actions verified and simulated in {:.2?}",
        schedule.kind(),
        report.actions,
        begin.elapsed()
    );
    println!("makespan         {:.3}", outcome.makespan);
    println!("work per rank    {:.3}", work);
    println!("bubble           {:.3} % of the step", 100.0 * outcome.bubble());
    println!("bubble over work {:.5}", outcome.bubble_over_work());
    println!("\nrank  units in flight       busy    idle %");
    for (rank, of) in outcome.ranks.iter().enumerate() {
        let idle = 100.0 * (1.0 - of.busy / outcome.makespan);
        println!("{rank:>4} {:>16} {:>10.3} {idle:>9.2}", of.in_flight_peak, of.busy);
    }
    Ok(())
}
