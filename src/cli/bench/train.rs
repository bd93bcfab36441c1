//! `slimpipe bench train`: the trainer's own code on random tokens.

use serde_json::json;
use slimpipe::runtime::random::Random;
use slimpipe::train::Config;
use slimpipe::train::config::Precision;
use slimpipe::train::data::Tokens;
use slimpipe::train::flops::FlopsPerToken;
use slimpipe::train::trainer;

use super::{Record, median};
use crate::cli::process::{peak_rss_mib, rss_mib};

/// Settings by the flags of the PyTorch script.
pub const FLAGS: [(&str, &str); 11] = [
    ("model.hidden_size", "--hidden"),
    ("model.num_hidden_layers", "--layers"),
    ("model.num_attention_heads", "--heads"),
    ("model.num_key_value_heads", "--kv-heads"),
    ("model.intermediate_size", "--ffn"),
    ("model.vocab_size", "--vocab"),
    ("train.seq_len", "--seq"),
    ("train.microbatches", "--batch"),
    ("parallel.threads", "--threads"),
    ("parallel.slices", "--slices"),
    ("train.dtype", "--dtype"),
];

/// Arguments of `bench train`.
#[derive(clap::Args)]
pub struct Args {
    /// Width of the hidden states.
    #[arg(long, default_value_t = 512)]
    hidden: usize,
    /// Layers.
    #[arg(long, default_value_t = 8)]
    layers: usize,
    /// Query heads.
    #[arg(long, default_value_t = 8)]
    heads: usize,
    /// Key and value heads.
    #[arg(long, default_value_t = 4)]
    kv_heads: usize,
    /// Width inside the MLP.
    #[arg(long, default_value_t = 1408)]
    ffn: usize,
    /// Tokens in the vocabulary.
    #[arg(long, default_value_t = 8192)]
    vocab: usize,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 2048)]
    seq: usize,
    /// Sequences in a step.
    #[arg(long, default_value_t = 1)]
    batch: u32,
    /// Steps measured, after one to warm up.
    #[arg(long, default_value_t = 5)]
    steps: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// f32 or bf16.
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Slices per sequence.
    #[arg(long, default_value_t = 2)]
    slices: u32,
    /// A flag of the PyTorch script; there is nothing to compile here.
    #[arg(long)]
    compile: bool,
}

/// Measures, and prints the keys of the PyTorch script.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.steps > 0,
        "--steps is 0; at least 1 is measured after the one to warm up"
    );
    if args.compile {
        eprintln!("--compile changes nothing: what runs is compiled already");
    }
    let mut config = Config::default().with(&[format!("train.dtype={}", args.dtype)])?;
    let (model, train, parallel) = (&mut config.model, &mut config.train, &mut config.parallel);
    model.hidden_size = args.hidden;
    model.num_hidden_layers = args.layers;
    model.num_attention_heads = args.heads;
    model.num_key_value_heads = args.kv_heads;
    model.intermediate_size = args.ffn;
    model.vocab_size = args.vocab;
    train.seq_len = args.seq;
    train.microbatches = args.batch;
    train.steps = args.steps + 1;
    train.warmup_steps = 0;
    (train.lr, train.min_lr, train.clip_norm) = (3e-4, 3e-4, 0.0);
    (parallel.pipeline, parallel.slices, parallel.threads) = (1, args.slices, args.threads);
    let job = config.resolve()?;
    let random = Random::new(0, 1);
    let ids = (0..4 * args.seq as u64 + 1).map(|i| random.below(i, args.vocab as u64) as u32);
    let tokens = Tokens::from_ids(ids.collect());
    let before = rss_mib();
    let record = Record::default();
    let summary = trainer::train(&job, &tokens, None, &record)?;
    let steps = record.steps();
    let rate = median(steps.iter().skip(1).map(|step| step.tokens_per_second).collect());
    let flops = FlopsPerToken::of(&job.model, args.seq).causal;
    let mib = |bytes: u64| (bytes as f64 / 1048576.0).round();
    let round = |value: f64, digits: i32| (value * 10f64.powi(digits)).round() / 10f64.powi(digits);
    let line = json!({
        "peer": concat!("slimpipe-", env!("CARGO_PKG_VERSION")),
        "dtype": if config.train.dtype == Precision::Bf16 { "bf16" } else { "f32" },
        "compile": false,
        "params": job.model.parameter_count(),
        "seq": args.seq,
        "tokens_per_s": round(rate, 1),
        "gflops": round(rate * flops / 1e9, 1),
        "step_s": round(f64::from(args.batch) * args.seq as f64 / rate, 3),
        "peak_rss_mib": peak_rss_mib(),
        "loss": steps.last().map(|step| round(step.loss, 4)),
        "slices": args.slices,
        "start_rss_mib": before,
        "reserved_mib": mib(summary.ranks.iter().map(|rank| rank.reserved_peak).sum()),
        "active_mib": mib(summary.ranks.iter().map(|rank| rank.active_peak).sum()),
        "mfu": steps.last().map(|step| round(step.mfu, 3)),
    });
    println!("{line}");
    Ok(())
}
