//! The `slimpipe` command.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Trains long-context language models with as little memory as the mathematics allows.
#[derive(Parser)]
#[command(version, about)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Train a Llama; without arguments a tiny one, on the text found here.
    Train(cli::train::Args),
    /// Measure the loss of a model on data.
    Eval(cli::eval::Args),
    /// Measure speed, memory and the pipeline's bubble.
    #[command(subcommand)]
    Bench(cli::bench::Bench),
    /// Run a schedule on paper: its time, its bubble, its units in flight.
    Simulate(cli::simulate::Args),
    /// Find out what a training run would hold and how fast it would be, and with which settings.
    Plan(cli::plan::Args),
    /// Look into a run's memory.
    #[command(subcommand)]
    Trace(cli::trace::Trace),
    /// Compile CUDA kernels before they are needed.
    #[command(subcommand)]
    Kernels(cli::kernels::Kernels),
    /// Say what this machine offers.
    Doctor,
}

/// Lets `slimpipe ... | head` end quietly, as other commands do: Rust programs start with broken pipes
/// ignored and then fail to print.
#[cfg(unix)]
fn end_with_the_reader() {
    // SAFETY: nothing else runs yet, and the default action of a signal has no handler to be wrong.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

#[cfg(not(unix))]
fn end_with_the_reader() {}

/// Lets the driver give streams as many queues as it has, unless somebody has chosen: with fewer, streams that
/// share one wait for each other, and one that waits for another rank would hold up what that rank waits for.
fn let_streams_run_side_by_side() {
    const CONNECTIONS: &str = "CUDA_DEVICE_MAX_CONNECTIONS";
    if std::env::var_os(CONNECTIONS).is_none() {
        // SAFETY: nothing else runs yet that could read the environment meanwhile.
        unsafe { std::env::set_var(CONNECTIONS, "32") };
    }
}

fn main() -> ExitCode {
    end_with_the_reader();
    let_streams_run_side_by_side();
    let command = Command::parse();
    let result = match command.what {
        What::Train(args) => cli::train::run(args),
        What::Eval(args) => cli::eval::run(&args),
        What::Bench(bench) => cli::bench::run(bench),
        What::Simulate(args) => cli::simulate::run(&args),
        What::Plan(args) => cli::plan::run(&args),
        What::Trace(trace) => return exit(cli::trace::run(&trace)),
        What::Kernels(kernels) => cli::kernels::run(&kernels),
        What::Doctor => cli::doctor::run(),
    };
    exit(result.map(|()| ExitCode::SUCCESS))
}

/// What the process ends with: 2 for all that cannot be.
fn exit(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
