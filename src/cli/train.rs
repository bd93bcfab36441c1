//! `slimpipe train`.

use std::path::PathBuf;

use slimpipe::allocator::Bytes;
use slimpipe::pipeline::comm::environment::Place;
use slimpipe::pipeline::schedule::Exchange;
use slimpipe::train::config::{Job, Ranks};
use slimpipe::train::data::Tokens;
use slimpipe::train::run::RunDir;
use slimpipe::train::trainer::{self, Output, Summary};
use slimpipe::train::{Config, Error};

use super::figures::count;
use super::progress::Progress;

/// Arguments of `train`.
#[derive(clap::Args)]
pub struct Args {
    /// Settings, as TOML; see the README.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, such as train.steps=100; can be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run's folder [default: the first free runs/train-<number>].
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Continue the run in this folder from its latest checkpoint.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    resume: Option<PathBuf>,
}

/// Trains, and prints what came of it.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (config, open): (Config, _) = match &args.resume {
        Some(dir) => {
            let run = RunDir::open(dir)?;
            (Config::load(Some(&run.config()), &args.set)?, Some(run))
        }
        None => (Config::load(args.config.as_deref(), &args.set)?, None),
    };
    // Everything that can be wrong is found before a file is made.
    let job = config.resolve_at(Place::of_process()?)?;
    let tokens = Tokens::open(&config.data.paths, config.tokenizer().as_deref())
        .map_err(|error| error.about("data.paths"))?;
    tokens.check_count(config.data.tokens)?;
    tokens.check_context(config.train.seq_len, "train.seq_len")?;
    let progress = Progress::new()?;
    let resume = open.is_some();
    let run = match (open, &args.out, &job.ranks) {
        (Some(run), _, _) => run,
        (None, None, Ranks::Process { place, .. }) => {
            let what = format!(
                "is not set, and {} started {} processes; name the run's folder, which all of them see",
                place.launcher, place.size
            );
            return Err(Error::setting("--out", what).into());
        }
        (None, Some(path), ranks) if !ranks.leads() => RunDir::made_by_another(path),
        (None, path, _) => RunDir::create(path.as_deref())?,
    };
    if job.ranks.leads() {
        begin(&job, &tokens);
    }
    let output = Output { run: run.clone(), resume };
    let summary = trainer::train(&job, &tokens, Some(&output), &progress)?;
    if job.ranks.leads() {
        progress.finish();
        print(&summary, &run);
    }
    Ok(())
}

/// Says what will be trained.
fn begin(job: &Job, tokens: &Tokens) {
    println!(
        "{} parameters, {} on {}{} rank{}: {} slice{} of {} tokens, {} microbatch{}, {} chunk{}{}; {} tokens of data",
        count(job.model.parameter_count()),
        job.schedule.kind(),
        match job.schedule.data_ranks() {
            1 => String::new(),
            data => format!("{data} x "),
        },
        job.schedule.ranks(),
        plural(job.schedule.ranks(), "s"),
        job.schedule.slices(),
        plural(job.schedule.slices(), "s"),
        match job.slices.extremes() {
            (shortest, longest) if shortest == longest => longest.to_string(),
            (shortest, longest) => format!("{shortest} to {longest}"),
        },
        job.schedule.microbatches(),
        plural(job.schedule.microbatches(), "es"),
        job.schedule.chunks(),
        plural(job.schedule.chunks(), "s"),
        match job.schedule.exchange() {
            Exchange::Off => String::new(),
            exchange => format!(", {exchange} attention"),
        },
        count(tokens.len() as u64),
    );
}

fn print(summary: &Summary, run: &RunDir) {
    let Some(last) = &summary.last else {
        println!("\nnothing to do: the run has all its steps; raise them with --set train.steps=N");
        return;
    };
    println!("\nstep {}: loss {:.4}", last.step, last.loss);
    println!(
        "\nrank  units in flight  (formula)  activations      active    reserved  overflow hits"
    );
    for (rank, r) in summary.ranks.iter().enumerate() {
        let [activations, active, reserved] = [r.activation_peak, r.active_peak, r.reserved_peak]
            .map(|bytes| Bytes(bytes).to_string());
        println!(
            "{rank:>4}  {:>15}  {:>9}  {activations:>11}  {active:>10}  {reserved:>10}  {:>13}",
            r.in_flight_peak, r.in_flight_expected, r.overflow_hits
        );
    }
    println!();
    for (path, what) in [
        (run.metrics(), "loss, speed and memory of every step"),
        (run.tensorboard(), "the same; `tensorboard --logdir` reads its folder"),
        (run.schedule(), "what each rank runs, in order"),
        (run.timeline(), "what each rank did when; open in ui.perfetto.dev"),
        (run.memory_events(), "every allocation of every rank; see slimpipe trace"),
        (run.model(), "the weights, as a Hugging Face folder"),
        (run.checkpoints(), "what `train --resume` begins with"),
    ] {
        if path.exists() {
            println!("{:<42} {what}", path.display());
        }
    }
    if summary.stopped {
        println!("\nended early; go on with: slimpipe train --resume {}", run.path().display());
    }
}

fn plural(count: u32, ending: &str) -> &str {
    if count == 1 { "" } else { ending }
}
