//! `slimpipe bench memory`: what recompute and offload save, and what they cost.

use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::json;
use slimpipe::train::Config;
use slimpipe::train::data::Tokens;
use slimpipe::train::metrics::StepMetrics;
use slimpipe::train::model::Recompute;
use slimpipe::train::trainer::{self, Observer};

use super::{Size, median};

/// Arguments of `bench memory`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    size: Size,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 4096)]
    seq: usize,
    /// Layers of the model.
    #[arg(long, default_value_t = 8)]
    layers: usize,
    /// Steps measured of each mode, after one to warm up.
    #[arg(long, default_value_t = 5)]
    steps: u64,
    /// Where activations wait that are offloaded.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// Recompute and the offloaded part.
const MODES: [(Recompute, f64); 7] = [
    (Recompute::None, 0.0),
    (Recompute::Partial, 0.0),
    (Recompute::Full, 0.0),
    (Recompute::None, 0.5),
    (Recompute::None, 1.0),
    (Recompute::Partial, 1.0),
    (Recompute::Full, 1.0),
];

#[derive(Default)]
struct Record(Mutex<Vec<StepMetrics>>);

impl Observer for Record {
    fn step(&self, metrics: &StepMetrics) {
        if let Ok(mut steps) = self.0.lock() {
            steps.push(metrics.clone());
        }
    }
}

/// The trainer's own settings, for a model whose activations are most of its memory.
fn config(args: &Args) -> Config {
    let mut config = Config::default();
    let (model, train, parallel) = (&mut config.model, &mut config.train, &mut config.parallel);
    model.hidden_size = 256;
    model.intermediate_size = 704;
    model.num_hidden_layers = args.layers;
    train.seq_len = args.seq;
    train.microbatches = args.size.microbatches;
    train.steps = args.steps + 1;
    parallel.pipeline = args.size.pipeline;
    parallel.slices = args.size.slices;
    parallel.chunks = args.size.chunks;
    config.memory.strict = true;
    config.memory.offload_folder = Some(args.folder.clone());
    config
}

/// Trains in one mode after the other, and prints peaks, speeds, and that losses agree.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.steps > 0, "--steps is 0; at least 1 is measured");
    args.size.schedule(slimpipe::prelude::ScheduleKind::SlimPipe)?;
    let tokens = Tokens::from_ids((0..4 * args.seq as u32 + 1).map(|i| i * 7 % 251).collect());
    let (mut modes, mut losses) = (Vec::new(), Vec::new());
    for (recompute, offload) in MODES {
        let mut config = config(args);
        (config.memory.recompute, config.memory.offload) = (recompute, offload);
        let record = Record::default();
        let summary = trainer::train(&config.resolve()?, &tokens, None, &record)?;
        let steps = record.0.into_inner().unwrap_or_default();
        let rate = median(steps.iter().skip(1).map(|step| step.tokens_per_second).collect());
        let mib = |bytes: u64| (bytes as f64 / (1 << 20) as f64 * 100.0).round() / 100.0;
        let first = &summary.ranks[0];
        modes.push(json!({
            "recompute": recompute.name(),
            "offload": offload,
            "activations_mib": mib(first.activation_peak),
            "active_mib": mib(first.active_peak),
            "reserved_mib": mib(first.reserved_peak),
            "tokens_per_s": rate.round(),
        }));
        losses.push(steps.last().map(|step| step.loss.to_bits()));
    }
    let same = losses.iter().all(|loss| *loss == losses[0]);
    let Size { pipeline, slices, microbatches, chunks } = args.size;
    println!(
        "{}",
        json!({"p": pipeline, "n": slices, "m": microbatches, "v": chunks, "seq": args.seq,
               "same_losses": same, "rank_0": modes})
    );
    Ok(())
}
