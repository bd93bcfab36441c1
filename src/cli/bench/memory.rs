//! `slimpipe bench memory`: what recompute and offload save, and what they cost.

use std::path::PathBuf;

use serde_json::json;
use slimpipe::prelude::*;
use slimpipe::train::Config;
use slimpipe::train::data::Tokens;
use slimpipe::train::model::Recompute;
use slimpipe::train::trainer::{self, RankSummary};

use super::{Record, Size, median};

/// Arguments of `bench memory`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    size: Size,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 2048)]
    seq: usize,
    /// Layers of the model.
    #[arg(long, default_value_t = 8)]
    layers: usize,
    /// Rounds through all modes; speeds are medians over them, so that a disturbance meets all alike.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
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

/// The trainer's own settings, for a model whose activations are most of its memory.
fn config(args: &Args) -> Config {
    let mut config = Config::default();
    let (model, train, parallel) = (&mut config.model, &mut config.train, &mut config.parallel);
    model.hidden_size = 256;
    model.intermediate_size = 704;
    model.num_hidden_layers = args.layers;
    train.seq_len = args.seq;
    train.microbatches = args.size.microbatches;
    train.steps = 2; // one to warm up, one to measure
    parallel.pipeline = args.size.pipeline;
    parallel.slices = args.size.slices;
    parallel.chunks = args.size.chunks;
    // Attention that was shared is made again by one rank alone, and rounds differently.
    parallel.exchange = Some("off".to_owned());
    config.memory.strict = true;
    config.memory.offload_folder = Some(args.folder.clone());
    config
}

/// One mode's figures: memory of rank 0, the speed of each round, the last loss.
#[derive(Default)]
struct Row {
    memory: RankSummary,
    rates: Vec<f64>,
    losses: Vec<u64>,
}

/// Trains in one mode after the other, round by round; prints peaks, speeds, and whether losses agree.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.rounds > 0, "--rounds is 0; at least 1 is measured");
    args.size.schedule(ScheduleKind::SlimPipe)?;
    let tokens = Tokens::from_ids((0..4 * args.seq as u32 + 1).map(|i| i * 7 % 251).collect());
    let mut rows: [Row; MODES.len()] = Default::default();
    for _ in 0..args.rounds {
        for ((recompute, offload), row) in MODES.into_iter().zip(&mut rows) {
            let mut config = config(args);
            (config.memory.recompute, config.memory.offload) = (recompute, offload);
            let record = Record::default();
            let mut summary = trainer::train(&config.resolve()?, &tokens, None, &record)?;
            let steps = record.steps();
            row.memory = summary.ranks.swap_remove(0);
            row.rates.extend(steps.last().map(|step| step.tokens_per_second));
            row.losses.extend(steps.iter().map(|step| step.loss.to_bits()));
        }
    }
    let same = rows.iter().all(|row| row.losses == rows[0].losses);
    let modes: Vec<_> = MODES.into_iter().zip(rows).map(|(mode, row)| told(mode, row)).collect();
    let Size { pipeline, slices, microbatches, chunks } = args.size;
    println!(
        "{}",
        json!({"p": pipeline, "n": slices, "m": microbatches, "v": chunks, "seq": args.seq,
               "same_losses": same, "rank_0": modes})
    );
    Ok(())
}

fn told((recompute, offload): (Recompute, f64), row: Row) -> serde_json::Value {
    let mib = |bytes: u64| (bytes as f64 / f64::from(1 << 20) * 100.0).round() / 100.0;
    json!({
        "recompute": recompute.name(),
        "offload": offload,
        "activations_mib": mib(row.memory.activation_peak),
        "active_mib": mib(row.memory.active_peak),
        "reserved_mib": mib(row.memory.reserved_peak),
        "tokens_per_s": median(row.rates).round(),
    })
}
