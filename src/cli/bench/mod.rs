//! `slimpipe bench`: figures anyone can measure again. Each prints one JSON line.

mod bubble;
mod memory;
mod simulate;
mod train;

/// What can be measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// Speed and memory of a Llama's training step; the flags of the PyTorch script it is compared with.
    Train(train::Args),
    /// The measured bubble of a pipeline against its formula.
    Bubble(bubble::Args),
    /// The longest context that trains under a memory limit, by schedule.
    Reach(memory::Args),
    /// A step simulated with measured units against the same step executed.
    Simulate(simulate::Args),
}

/// Runs a measurement.
pub fn run(bench: Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Train(args) => train::run(&args),
        Bench::Bubble(args) => bubble::run(&args),
        Bench::Reach(args) => memory::run(&args),
        Bench::Simulate(args) => simulate::run(&args),
    }
}

/// The middle value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
