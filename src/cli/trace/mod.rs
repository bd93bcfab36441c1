//! `slimpipe trace`: memory event logs.

mod diff;
mod export;
mod summary;
mod view;

use std::path::Path;
use std::process::ExitCode;

use slimpipe::train::trace::{Summary, logs};

/// The subcommands of `trace`.
#[derive(clap::Subcommand)]
pub enum Trace {
    /// Say what a run's memory held at its peaks, who held it, and which code made it.
    Summary(summary::Args),
    /// Compare two runs by owner. Exit code 0: nothing changed by more than the threshold; 1:
    /// something did; 2: a log cannot be read.
    Diff(diff::Args),
    /// Show when memory was used, where and what for: a page for the browser.
    View(view::Args),
    /// Write a run's memory event logs for other tools.
    Export(export::Args),
}

/// Runs the subcommand.
pub fn run(trace: &Trace) -> anyhow::Result<ExitCode> {
    match trace {
        Trace::Summary(args) => summary::run(args).map(|()| ExitCode::SUCCESS),
        Trace::Diff(args) => diff::run(args),
        Trace::View(args) => view::run(args).map(|()| ExitCode::SUCCESS),
        Trace::Export(args) => export::run(args).map(|()| ExitCode::SUCCESS),
    }
}

/// Sums up all logs that `path` names, by rank.
fn summaries(path: &Path) -> anyhow::Result<Vec<Summary>> {
    Ok(logs(path)?.iter().map(|log| Summary::of(log)).collect::<Result<_, _>>()?)
}
