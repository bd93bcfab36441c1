//! `slimpipe bench simulate`: a step on paper against the same step for real.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::{Map, Value, json};
use slimpipe::allocator::MemoryStats;
use slimpipe::pipeline::execute::{self, StepReport, Work};
use slimpipe::pipeline::schedule::{Action, Pass, Unit};
use slimpipe::pipeline::simulate::{Category, Costs, Held, RankOutcome, simulate};
use slimpipe::prelude::*;
use slimpipe::train::flops::token_cost;
use slimpipe::train::hub::LlamaConfig;
use slimpipe::train::model::{LlamaStage, Source};

use super::meter::{self, Meter};
use super::{Size, median};

/// Arguments of `bench simulate`.
#[derive(clap::Args)]
pub struct Args {
    /// The schedule.
    #[arg(long, default_value = "slimpipe")]
    schedule: ScheduleKind,
    /// How attention is shared among ranks: off, paper or balanced.
    #[arg(long, default_value = "off")]
    exchange: Exchange,
    #[command(flatten)]
    size: Size,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 2048)]
    seq: usize,
    /// Layers of the model.
    #[arg(long, default_value_t = 8)]
    layers: usize,
    /// Pairs of steps: one to measure what units cost, one to compare with.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
}

const PASSES: [Pass; 2] = [Pass::Forward, Pass::Backward];

/// What one rank did in one step: when, how long each unit took and attention for others in each
/// pass, what it held.
struct Measured {
    report: StepReport,
    units: HashMap<Action, f64>,
    attended: [f64; 2],
    memory: meter::State,
    stats: MemoryStats,
}

impl Measured {
    fn of<S: Stage>(pipeline: &Pipeline<S>, report: StepReport, memory: meter::State) -> Self {
        let (mut units, mut attended) = (HashMap::new(), [0.0; 2]);
        for span in pipeline.timeline().spans() {
            let seconds = (span.end - span.start).as_secs_f64();
            if let Work::AttendFor(_, pass) = span.work {
                attended[pass as usize] += seconds;
            }
            // A unit is interrupted where its rank attends for others.
            if let Some(action) = action(span.work) {
                *units.entry(action).or_default() += seconds;
            }
        }
        let stats = pipeline.memory().stats();
        Self { report, units, attended, memory, stats }
    }
}

fn action(work: Work) -> Option<Action> {
    match work {
        Work::Forward(unit) => Some(Action::Forward(unit)),
        Work::Backward(unit) => Some(Action::Backward(unit)),
        Work::BackwardInput(unit) => Some(Action::BackwardInput(unit)),
        Work::BackwardWeight(unit) => Some(Action::BackwardWeight(unit)),
        _ => None,
    }
}

/// Units cost what they did in the measured steps, for each rank, slice and chunk: seconds are the
/// median over steps and microbatches, bytes those of the first microbatch of one step.
struct MeasuredCosts<'a> {
    seconds: HashMap<(u32, Action), f64>,
    /// By rank and pass: of half a chunk that is attended to for others. What helpers spare a unit is
    /// missing from its own time already.
    half_chunk: Vec<[f64; 2]>,
    /// By rank.
    memory: Vec<&'a meter::State>,
}

/// The same unit of the first microbatch.
fn in_first_microbatch(action: Action) -> Action {
    let first = |unit| Unit { microbatch: 0, ..unit };
    match action {
        Action::Forward(unit) => Action::Forward(first(unit)),
        Action::Backward(unit) => Action::Backward(first(unit)),
        Action::BackwardInput(unit) => Action::BackwardInput(first(unit)),
        Action::BackwardWeight(unit) => Action::BackwardWeight(first(unit)),
        other => other,
    }
}

impl<'a> MeasuredCosts<'a> {
    fn of(schedule: &Schedule, steps: impl Iterator<Item = &'a Vec<Measured>> + Clone) -> Self {
        let memory = steps.clone().next().into_iter().flatten().map(|rank| &rank.memory).collect();
        let mut all: HashMap<_, Vec<f64>> = HashMap::new();
        for (rank, measured) in steps.clone().flat_map(|ranks| (0..).zip(ranks)) {
            for (&action, &seconds) in &measured.units {
                all.entry((rank, in_first_microbatch(action))).or_default().push(seconds);
            }
        }
        let medians = all.into_iter().map(|(key, seconds)| (key, median(seconds)));
        let half_chunk = |rank: u32| {
            PASSES.map(|of| {
                let halves = |action| match action {
                    Action::Attend { part, pass, .. } if pass == of => f64::from(part.len()),
                    _ => 0.0,
                };
                let halves: f64 = schedule.program(rank).map(halves).sum();
                let step = |ranks: &Vec<Measured>| ranks[rank as usize].attended[of as usize];
                median(steps.clone().map(step).collect()) / halves.max(1.0)
            })
        };
        let half_chunk = (0..schedule.ranks()).map(half_chunk).collect();
        Self { seconds: medians.collect(), half_chunk, memory }
    }
}

impl Costs for MeasuredCosts<'_> {
    fn seconds(&self, rank: u32, action: Action) -> f64 {
        if let Action::Attend { part, pass, .. } = action {
            return self.half_chunk[rank as usize][pass as usize] * f64::from(part.len());
        }
        self.seconds.get(&(rank, in_first_microbatch(action))).copied().unwrap_or(0.0)
    }

    fn resident(&self, rank: u32) -> Held {
        self.memory[rank as usize].live
    }

    fn begin(&self, rank: u32, action: Action) -> Held {
        self.memory[rank as usize].change(action).begin()
    }

    fn end(&self, rank: u32, action: Action) -> Held {
        self.memory[rank as usize].change(action).end()
    }

    fn message(&self, rank: u32, action: Action) -> Held {
        self.memory[rank as usize].message(action)
    }
}

/// Units cost what they did in one step: then only what lies between them is simulated.
struct Replay(HashMap<(u32, Action), f64>);

impl Costs for Replay {
    fn seconds(&self, rank: u32, action: Action) -> f64 {
        self.0.get(&(rank, action)).copied().unwrap_or(0.0)
    }
}

/// A step, simulated with its own units, against itself, in percent.
fn replay(schedule: &Schedule, ranks: &[Measured]) -> anyhow::Result<f64> {
    let units = (0..).zip(ranks).flat_map(|(rank, measured)| {
        measured.units.iter().map(move |(&action, &seconds)| ((rank, action), seconds))
    });
    let simulated = simulate(schedule, &Replay(units.collect()))?.makespan;
    Ok(difference_percent(simulated, makespan(ranks)))
}

fn model(args: &Args) -> LlamaConfig {
    LlamaConfig {
        vocab_size: 256,
        hidden_size: 256,
        intermediate_size: 768,
        num_hidden_layers: args.layers,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: args.seq,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    }
}

/// Runs the steps; by step and rank.
fn execute(args: &Args, schedule: &Schedule) -> anyhow::Result<Vec<Vec<Measured>>> {
    let model = model(args);
    let tokens: Vec<u32> = (0..args.seq as u32).map(|i| i * 37 % 256).collect();
    let labels = tokens.iter().map(|&token| i64::from(token)).collect();
    let batch =
        Batch { sequences: vec![Sequence { tokens, labels }; args.size.microbatches as usize] };
    let slices = schedule.cut(args.seq, token_cost(&model))?;
    let origin = Instant::now();
    let by_rank = launch(args.size.pipeline, schedule.channel_capacity(), |comm| {
        let _team = team::enter(1).map_err(execute::Error::from)?;
        let meter = Meter::new(comm.size() == 1);
        let memory = Memory::builder(comm.rank()).adaptor(meter.clone()).build();
        let build =
            |spec: &StageSpec| LlamaStage::new(&model, spec, &Source::Random(1), DType::F32);
        let size = (args.layers, slices.clone());
        let mut pipeline =
            Pipeline::new(schedule.clone(), Box::new(comm), memory, size, origin, build)?;
        let mut steps = Vec::new();
        // The first step warms caches and commits memory.
        for step in 0..=2 * args.pairs {
            pipeline.comm().barrier().map_err(execute::Error::from)?;
            meter.read();
            pipeline.memory().reset_peaks();
            let report = pipeline.step(&batch)?;
            if step > 0 {
                steps.push(Measured::of(&pipeline, report, meter.read()));
            }
        }
        Ok::<_, slimpipe::train::Error>(steps)
    })?;
    let mut by_rank: Vec<_> = by_rank.into_iter().map(Vec::into_iter).collect();
    Ok((0..2 * args.pairs)
        .map(|_| by_rank.iter_mut().filter_map(Iterator::next).collect())
        .collect())
}

/// From the first rank's begin to the last one's end.
fn makespan(ranks: &[Measured]) -> f64 {
    let begin = ranks.iter().map(|rank| rank.report.extent.0).min().unwrap_or_default();
    let end = ranks.iter().map(|rank| rank.report.extent.1).max().unwrap_or_default();
    (end - begin).as_secs_f64()
}

/// The part of the ranks' time in which they did not compute, in percent.
fn bubble(ranks: &[Measured]) -> f64 {
    let busy: f64 = ranks.iter().map(|rank| rank.report.busy.as_secs_f64()).sum();
    100.0 * (1.0 - busy / (makespan(ranks) * ranks.len() as f64))
}

/// A rank's peak in the simulated step beside the highest in the executed ones.
fn compare_memory(simulated: &RankOutcome, executed: &Measured) -> Value {
    let by_category = |held: &Held| -> Map<String, Value> {
        let bytes = Category::ALL.map(|category| (category.name().to_owned(), held.get(category)));
        bytes
            .into_iter()
            .filter(|(_, bytes)| *bytes != 0)
            .map(|(name, bytes)| (name, bytes.into()))
            .collect()
    };
    let (total, active) = (simulated.peak.total(), executed.stats.total.active.peak);
    json!({"simulated_bytes": total,
           "executed_bytes": active,
           "difference_percent": difference_percent(total as f64, active as f64),
           "simulated": by_category(&simulated.peak),
           "executed": by_category(&executed.memory.peak),
           "committed_bytes": executed.stats.total.reserved.peak})
}

fn difference_percent(simulated: f64, executed: f64) -> f64 {
    100.0 * (simulated / executed - 1.0)
}

/// Measures units in every other step, simulates a step with them, and compares with the rest. On a
/// machine that others use, steps differ more than any simulation can tell; so each is also replayed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.pairs > 0, "--pairs must be at least 1");
    let Size { pipeline: p, slices: n, microbatches: m, chunks: v } = args.size;
    let schedule = args.size.schedule(args.schedule)?.with_exchange(args.exchange)?;
    let steps = execute(args, &schedule)?;
    let costs = MeasuredCosts::of(&schedule, steps.iter().step_by(2));
    let simulated = simulate(&schedule, &costs)?;
    let others = || steps.iter().skip(1).step_by(2);
    let executed = median(others().map(|ranks| makespan(ranks)).collect());
    let bubble = median(others().map(|ranks| bubble(ranks)).collect());
    let most = |rank: usize| {
        others().map(|ranks| &ranks[rank]).max_by_key(|rank| rank.stats.total.active.peak)
    };
    let memory = simulated.ranks.iter().enumerate();
    let memory: Vec<Value> = memory
        .filter_map(|(rank, simulated)| Some(compare_memory(simulated, most(rank)?)))
        .collect();
    // What ranks do for each other belongs to no unit.
    let replayed = match args.exchange {
        Exchange::Off => {
            let each = steps.iter().map(|ranks| replay(&schedule, ranks));
            Some(median(each.collect::<anyhow::Result<_>>()?))
        }
        _ => None,
    };
    println!(
        "{}",
        json!({"schedule": schedule.kind().name(), "exchange": args.exchange.name(),
               "p": p, "n": n, "m": m, "v": v,
               "simulated_s": simulated.makespan,
               "executed_s": executed,
               "difference_percent": difference_percent(simulated.makespan, executed),
               "replayed_difference_percent": replayed,
               "simulated_bubble_percent": 100.0 * simulated.bubble(),
               "executed_bubble_percent": bubble,
               "memory": memory})
    );
    Ok(())
}
