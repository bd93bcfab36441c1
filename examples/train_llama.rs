//! Trains a small Llama with SlimPipe: a whole training program, the loop in plain sight.
//!
//! ```text
//! cargo run --release --example train_llama
//! cargo run --release --example train_llama -- --ranks 2 --slices 4 --data my.txt --out runs/mine
//! ```
//!
//! Ranks are threads of this process. Each builds its layers, runs its part of every step, and
//! speaks to the others through its communicator only. With `--out` the weights, the schedule and the
//! last step's timeline are written.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use slimpipe::pipeline::schedule::dump;
use slimpipe::prelude::*;
use slimpipe::train::config::TrainSettings;
use slimpipe::train::data::{Sampler, Tokens};
use slimpipe::train::draw::{self, Chart};
use slimpipe::train::hub::{self, LlamaConfig};
use slimpipe::train::lr;
use slimpipe::train::model::{LlamaStage, Source};

struct Args {
    ranks: u32,
    slices: u32,
    steps: u64,
    data: PathBuf,
    out: Option<PathBuf>,
}

impl Args {
    fn parse() -> Result<Self> {
        let mut args = Self { ranks: 4, slices: 8, steps: 60, data: ".".into(), out: None };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            let value = words.next().with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--ranks" => args.ranks = value.parse().context("--ranks")?,
                "--slices" => args.slices = value.parse().context("--slices")?,
                "--steps" => args.steps = value.parse().context("--steps")?,
                "--data" => args.data = value.into(),
                "--out" => args.out = Some(value.into()),
                _ => bail!("unknown {flag}; there are --ranks --slices --steps --data --out"),
            }
        }
        Ok(args)
    }
}

/// Bytes as tokens, eight layers, grouped-query attention.
fn model(seq_len: usize) -> LlamaConfig {
    LlamaConfig {
        vocab_size: 256,
        hidden_size: 128,
        intermediate_size: 384,
        num_hidden_layers: 8,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: seq_len,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    }
}

fn main() -> Result<()> {
    let args = Args::parse()?;
    let recipe = TrainSettings { seq_len: 512, steps: args.steps, ..TrainSettings::default() };
    let model = model(recipe.seq_len);
    let tokens = Tokens::open(std::slice::from_ref(&args.data), None)?;
    let (kind, m) = (ScheduleKind::SlimPipe, recipe.microbatches);
    let schedule = Schedule::new(kind, args.ranks, args.slices, m, 1)?;
    let origin = Instant::now();

    // Every rank runs this on a thread of its own. If one fails, all end with its error.
    let ranks = launch(args.ranks, schedule.channel_capacity(), |comm| -> Result<_> {
        let rank = comm.rank();
        let _team = team::enter((team::cores() / args.ranks as usize).max(1))?;
        let memory = Memory::builder(rank).build();
        let _entered = memory.enter();

        let build = |spec: &StageSpec| {
            LlamaStage::new(&model, spec, &Source::Random(recipe.seed), DType::F32)
        };
        let slices = Slices::equal(recipe.seq_len, schedule.slices())?;
        let size = (model.num_hidden_layers, slices);
        let mut pipeline: Pipeline<LlamaStage> =
            Pipeline::new(schedule.clone(), Box::new(comm), memory.clone(), size, origin, build)?;
        let mut optimizer = AdamW::new(pipeline.parameters(), AdamWConfig::default())?;
        let sampler = Sampler::new(recipe.seed, m, recipe.seq_len);

        for step in 1..=recipe.steps {
            let begin = Instant::now();
            let batch = sampler.batch(&tokens, step, model.vocab_size)?;
            let report = pipeline.step(&batch)?; // forward and backward of all slices

            let mut squares = [optimizer.grad_sum_squares(|p| pipeline.owns(p))?];
            pipeline.comm().all_reduce_sum_f64(&mut squares)?;
            let (norm, lr) = (squares[0].sqrt(), lr::at(&recipe, step));
            optimizer.step(lr as f32, clip_factor(norm, recipe.clip_norm))?;

            if rank == 0 {
                let seconds = begin.elapsed().as_secs_f64();
                println!(
                    "step {step:>3}/{} | loss {:.4} | norm {norm:.3} | lr {lr:.2e} | {:.0} ms | {:.0} tok/s | peak {}",
                    recipe.steps,
                    report.loss,
                    1e3 * seconds,
                    f64::from(m) * recipe.seq_len as f64 / seconds,
                    Bytes(memory.stats().total.active.peak),
                );
            }
        }
        Ok((pipeline.parameters(), draw::portable(pipeline.timeline().spans())))
    })?;

    if let Some(out) = &args.out {
        let (parameters, spans): (Vec<_>, Vec<_>) = ranks.into_iter().unzip();
        write(out, &model, &parameters.concat())?;
        std::fs::write(out.join("schedule.txt"), dump(&schedule))?;
        let chart = Chart::measured("slimpipe".to_owned(), spans, None);
        std::fs::write(out.join("timeline.json"), draw::perfetto(&[chart]).to_string())?;
        println!("wrote model/, schedule.txt and timeline.json in {}", out.display());
    }
    Ok(())
}

/// Writes the weights as a Hugging Face folder, which `slimpipe eval --model` and transformers read.
fn write(out: &Path, model: &LlamaConfig, parameters: &[Parameter]) -> Result<()> {
    let mut folder = hub::FolderWriter::create(&out.join("model"), model, DType::F32)?;
    for parameter in parameters {
        folder.write(parameter.name(), parameter.value().as_bytes("write")?)?;
    }
    Ok(folder.finish()?)
}
