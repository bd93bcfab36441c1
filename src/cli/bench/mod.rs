//! `slimpipe bench`: figures anyone can measure again. Each prints one JSON line.

mod bubble;
mod gpu;
mod kernels;
mod memory;
mod meter;
mod reach;
mod simulate;
mod train;

use std::sync::Mutex;

use slimpipe::prelude::*;
use slimpipe::train::metrics::StepMetrics;
use slimpipe::train::trainer::Observer;

use super::flags::in_flags;

/// The settings that pipelines name, by the flags there are here.
const FLAGS: [(&str, &str); 10] = [
    ("parallel.pipeline", "--pipeline"),
    ("parallel.slices", "--slices"),
    ("train.microbatches", "--microbatches"),
    ("parallel.chunks", "--chunks"),
    ("parallel.schedule", "--schedule"),
    ("parallel.exchange", "--exchange"),
    ("train.seq_len", "--seq"),
    ("model.num_hidden_layers", "--layers"),
    ("train.dtype", "--dtype"),
    ("train.device", "--device"),
];

/// What can be measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// Speed and memory of a Llama's training step; the flags of the PyTorch script it is compared with.
    Train(train::Args),
    /// The measured bubble of a pipeline against its formula.
    Bubble(bubble::Args),
    /// Training on a GPU beside the same on the CPU: losses, speed, memory peaks beside the plan.
    Gpu(gpu::Args),
    /// The CUDA kernels on a GPU: times and rates, a line a case.
    Kernels(kernels::Args),
    /// The longest context that trains under a memory limit, by schedule.
    Reach(reach::Args),
    /// Peak memory and speed with recompute and offload.
    Memory(memory::Args),
    /// A step simulated with measured units against the same step executed: time, memory peaks.
    Simulate(simulate::Args),
}

/// Runs a measurement.
pub fn run(bench: Bench) -> anyhow::Result<()> {
    let result = match bench {
        Bench::Train(args) => return in_flags(train::run(&args), &train::FLAGS),
        Bench::Bubble(args) => bubble::run(&args),
        Bench::Gpu(args) => gpu::run(&args),
        Bench::Kernels(args) => kernels::run(&args),
        Bench::Reach(args) => reach::run(&args),
        Bench::Memory(args) => memory::run(&args),
        Bench::Simulate(args) => simulate::run(&args),
    };
    in_flags(result, &FLAGS)
}

/// The size of a pipeline's step.
#[derive(clap::Args)]
struct Size {
    /// Pipeline ranks, each on a thread; no more than cores.
    #[arg(short, long, default_value_t = 2)]
    pipeline: u32,
    /// Slices per sequence.
    #[arg(short = 'n', long, default_value_t = 8)]
    slices: u32,
    /// Microbatches.
    #[arg(short, long, default_value_t = 2)]
    microbatches: u32,
    /// Chunks per rank.
    #[arg(short = 'v', long, default_value_t = 1)]
    chunks: u32,
}

impl Size {
    /// The schedule of this size, if every rank can have a core.
    fn schedule(&self, kind: ScheduleKind) -> anyhow::Result<Schedule> {
        let (ranks, cores) = (self.pipeline, team::cores());
        anyhow::ensure!(
            ranks as usize <= cores,
            "{ranks} ranks on {cores} cores would wait for cores, not for each other; lower --pipeline"
        );
        kind.expect_executed().map_err(|error| anyhow::anyhow!("--schedule: {error}"))?;
        Ok(Schedule::new(kind, ranks, self.slices, self.microbatches, self.chunks)?)
    }
}

/// The metrics of every step of a run.
#[derive(Default)]
struct Record(Mutex<Vec<StepMetrics>>);

impl Record {
    /// What was noted, in the order of steps.
    fn steps(self) -> Vec<StepMetrics> {
        self.0.into_inner().unwrap_or_default()
    }
}

impl Observer for Record {
    fn step(&self, metrics: &StepMetrics) {
        if let Ok(mut steps) = self.0.lock() {
            steps.push(metrics.clone());
        }
    }
}

/// The middle value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
