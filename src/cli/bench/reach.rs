//! `slimpipe bench reach`: how long a context trains under one memory limit.

use serde_json::json;
use slimpipe::train::Config;
use slimpipe::train::config::ByteSize;
use slimpipe::train::data::Tokens;
use slimpipe::train::trainer;

/// Arguments of `bench reach`.
#[derive(clap::Args)]
pub struct Args {
    /// What each rank may hold.
    #[arg(long, default_value = "32 MiB")]
    limit: String,
    /// Contexts are tried in steps of this many tokens; a multiple of 64.
    #[arg(long, default_value_t = 64)]
    step: usize,
}

/// A model whose activations dominate: little width, many tokens; heads over key heads is 4.
fn config(schedule: &str, slices: u32, chunks: u32, seq_len: usize, limit: ByteSize) -> Config {
    let mut config = Config::default();
    let (model, train, parallel) = (&mut config.model, &mut config.train, &mut config.parallel);
    model.vocab_size = 64;
    model.hidden_size = 64;
    model.intermediate_size = 192;
    model.num_hidden_layers = 16;
    model.num_attention_heads = 4;
    model.num_key_value_heads = 1;
    train.seq_len = seq_len;
    train.microbatches = 4;
    train.steps = 1;
    (parallel.pipeline, parallel.slices, parallel.chunks) = (4, slices, chunks);
    parallel.schedule = schedule.to_owned();
    // Nothing but the schedule differs.
    parallel.exchange = Some("off".to_owned());
    config.memory.limit = Some(limit);
    config
}

/// Whether a step of `seq_len` tokens trains. Only running out of memory means no.
fn trains(
    schedule: &str,
    slices: u32,
    chunks: u32,
    seq_len: usize,
    limit: ByteSize,
) -> anyhow::Result<bool> {
    let job = config(schedule, slices, chunks, seq_len, limit).resolve()?;
    let tokens = Tokens::from_ids((0..seq_len as u32 + 1).map(|i| i * 7 % 64).collect());
    match trainer::train(&job, &tokens, None, &()) {
        Ok(_) => Ok(true),
        Err(error) if error.to_string().contains("out of memory") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The longest context, by doubling and then halving the step.
fn reach(schedule: &str, slices: u32, chunks: u32, args: &Args) -> anyhow::Result<usize> {
    let limit: ByteSize = args.limit.parse().map_err(|e| anyhow::anyhow!("--limit: {e}"))?;
    let fits = |steps: usize| trains(schedule, slices, chunks, steps * args.step, limit);
    let (mut low, mut high) = (0, 8);
    while fits(high)? {
        (low, high) = (high, 2 * high);
    }
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if fits(middle)? { low = middle } else { high = middle }
    }
    anyhow::ensure!(low > 0, "not even {} tokens train under {limit}; raise --limit", args.step);
    Ok(low * args.step)
}

/// Measures 1F1B, SlimPipe, and SlimPipe with four chunks per rank.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.step > 0 && args.step.is_multiple_of(64),
        "--step must be a multiple of 64"
    );
    let base = reach("1f1b", 1, 1, args)?;
    let slim = reach("slimpipe", 16, 1, args)?;
    let chunked = reach("slimpipe", 16, 4, args)?;
    let over = |tokens: usize| tokens as f64 / base as f64;
    println!(
        "{}",
        json!({"limit": args.limit, "p": 4, "m": 4, "1f1b_tokens": base,
               "slimpipe_n16_tokens": slim, "slimpipe_n16_ratio": over(slim),
               "slimpipe_n16_v4_tokens": chunked, "slimpipe_n16_v4_ratio": over(chunked)})
    );
    Ok(())
}
