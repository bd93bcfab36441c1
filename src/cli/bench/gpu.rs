//! `slimpipe bench gpu`: training on a GPU beside the same training on the CPU, and its memory beside the plan.

use serde_json::json;
use slimpipe::pipeline::comm::Axis;
use slimpipe::train::Config;
use slimpipe::train::config::{Job, Precision};
use slimpipe::train::data::Tokens;
use slimpipe::train::metrics::StepMetrics;
use slimpipe::train::plan::{memory::runtime::of_rank, of_job};
use slimpipe::train::trainer::{self, RankSummary};

use super::{Record, median};

/// Arguments of `bench gpu`.
#[derive(clap::Args)]
pub struct Args {
    /// Pipeline ranks, of each run; all are threads on one GPU.
    #[arg(short, long, value_delimiter = ',', default_values_t = [1, 4])]
    pipeline: Vec<u32>,
    /// Slices per sequence.
    #[arg(short = 'n', long, default_value_t = 8)]
    slices: u32,
    /// Microbatches.
    #[arg(short, long, default_value_t = 2)]
    microbatches: u32,
    /// Dtypes: f32, bf16.
    #[arg(long, value_delimiter = ',', default_values_t = ["f32".to_owned(), "bf16".to_owned()])]
    dtype: Vec<String>,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 2048)]
    seq: usize,
    /// Layers of the model.
    #[arg(long, default_value_t = 8)]
    layers: usize,
    /// Its width; heads are of 64, two for each key head.
    #[arg(long, default_value_t = 512)]
    hidden: usize,
    /// Steps: the first warms up.
    #[arg(long, default_value_t = 4)]
    steps: u64,
    /// The GPU.
    #[arg(long, default_value = "cuda")]
    device: String,
    /// Leave out the CPU: for models that are too large for it.
    #[arg(long)]
    alone: bool,
}

/// How far a GPU's memory peak may be from the plan.
const MEMORY: f64 = 0.02;

/// How far losses and gradient norms may be from the CPU's: sums are taken in another order.
fn tolerance(dtype: Precision) -> f64 {
    if dtype == Precision::F32 { 1e-5 } else { 1e-2 }
}

fn job(args: &Args, dtype: &str, pipeline: u32, device: &str) -> anyhow::Result<Job> {
    let mut config = Config::default()
        .with(&[format!("train.dtype={dtype}"), format!("train.device={device}")])?;
    let (model, train, parallel) = (&mut config.model, &mut config.train, &mut config.parallel);
    model.hidden_size = args.hidden;
    model.intermediate_size = (args.hidden * 11 / 4).next_multiple_of(64);
    model.num_hidden_layers = args.layers;
    model.num_attention_heads = (args.hidden / 64).max(1);
    model.num_key_value_heads = (args.hidden / 128).max(1);
    (train.seq_len, train.microbatches, train.steps) = (args.seq, args.microbatches, args.steps);
    (parallel.pipeline, parallel.slices) = (pipeline, args.slices);
    parallel.vocabulary = Some(pipeline > 1);
    Ok(config.resolve()?)
}

fn train(job: &Job, tokens: &Tokens) -> anyhow::Result<(Vec<StepMetrics>, Vec<RankSummary>)> {
    let record = Record::default();
    let summary = trainer::train(job, tokens, None, &record)?;
    Ok((record.steps(), summary.ranks))
}

/// Trains each dtype on each number of ranks, a line for each.
///
/// # Errors
/// A run fails, or, after all lines, a figure is off.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.steps > 1, "--steps is {}; the first one only warms up", args.steps);
    let tokens = Tokens::from_ids((0..4 * args.seq as u32 + 1).map(|i| i * 37 % 251).collect());
    let mut wrong = Vec::new();
    for dtype in &args.dtype {
        for &pipeline in &args.pipeline {
            compare(args, dtype, pipeline, &tokens, &mut wrong)?;
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

fn compare(
    args: &Args,
    dtype: &str,
    pipeline: u32,
    tokens: &Tokens,
    wrong: &mut Vec<String>,
) -> anyhow::Result<()> {
    let gpu = job(args, dtype, pipeline, &args.device)?;
    let (steps, ranks) = train(&gpu, tokens)?;
    let name = format!("{dtype}, {pipeline} ranks");
    let off = match args.alone {
        true => None,
        false => Some(farthest(&steps, &train(&job(args, dtype, pipeline, "cpu")?, tokens)?.0)),
    };
    if let Some(off) = off.filter(|off| off.is_nan() || *off > tolerance(gpu.config.train.dtype)) {
        wrong.push(format!("{name}: losses or gradient norms are {off:.1e} off the CPU's"));
    }
    let (work, setup) = of_job(&gpu);
    let mut memory = Vec::new();
    for (rank, number) in ranks.iter().zip(0..) {
        let at = gpu.mesh().coordinate(number, Axis::Pipeline);
        let (planned, peak) = (of_rank(&work, &setup, at)?.peak, rank.active_peak as f64);
        let off = peak / planned - 1.0;
        if off.abs() > MEMORY {
            wrong.push(format!("{name}: rank {number} peaks {:+.1} % from the plan", off * 100.0));
        }
        let mib = |bytes: f64| (bytes / f64::from(1 << 20) * 100.0).round() / 100.0;
        let reserved = mib(rank.reserved_peak as f64);
        memory.push(json!({"planned_mib": mib(planned), "active_mib": mib(peak),
            "reserved_mib": reserved, "off_percent": (off * 1e4).round() / 100.0}));
    }
    let steady =
        |figure: fn(&StepMetrics) -> f64| median(steps.iter().skip(1).map(figure).collect());
    println!(
        "{}",
        json!({"dtype": dtype, "p": pipeline, "n": args.slices, "m": args.microbatches,
            "seq": args.seq, "params": gpu.model.parameter_count(),
            "losses": steps.iter().map(|step| step.loss).collect::<Vec<_>>(),
            "off_cpu": off, "tokens_per_s": steady(|step| step.tokens_per_second).round(),
            "mfu": steady(|step| step.mfu), "ranks": memory})
    );
    Ok(())
}

/// The largest relative difference of a step's loss or gradient norm.
fn farthest(found: &[StepMetrics], expected: &[StepMetrics]) -> f64 {
    let pairs = found.iter().zip(expected);
    let both = pairs.flat_map(|(a, b)| [(a.loss, b.loss), (a.grad_norm, b.grad_norm)]);
    // NaN stays: it is no agreement.
    both.map(|(a, b)| (a / b - 1.0).abs())
        .fold(0.0, |most: f64, off| if most.is_nan() || off <= most { most } else { off })
}
