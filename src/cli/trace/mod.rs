//! `slimpipe trace`: memory event logs.

mod diff;
mod export;
mod owners;
mod summary;
mod view;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use slimpipe::train::trace::{Playback, Summary, TraceError, logs};

/// The subcommands of `trace`.
#[derive(clap::Subcommand)]
pub enum Trace {
    /// Say what a run's memory held at its peaks, who held it, and which code made it.
    Summary(summary::Args),
    /// Compare two runs by owner. Exit code 0: nothing changed by more than the threshold; 1:
    /// something did, or a rank is in one of them only; 2: they cannot be read or compared.
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

/// What `read` makes of the logs that `path` names. If it fails, those that cannot be read are left out:
/// a line on stderr, given back too, names each.
///
/// # Errors
/// No log can be read, or `read` fails for another reason.
fn readable<T>(
    path: &Path,
    mut read: impl FnMut(&[PathBuf]) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Vec<String>)> {
    let all = logs(path)?;
    let error = match read(&all) {
        Ok(result) => return Ok((result, Vec::new())),
        Err(error) => error,
    };
    let (mut good, mut left_out) = (Vec::new(), Vec::new());
    for log in all {
        match check(&log) {
            Ok(()) => good.push(log),
            Err(error) => left_out.push(format!("left out {error}")),
        }
    }
    if good.is_empty() || left_out.is_empty() {
        return Err(error);
    }
    let result = read(&good)?;
    for line in &left_out {
        eprintln!("warning: {line}");
    }
    Ok((result, left_out))
}

/// Reads a log to its end.
fn check(log: &Path) -> Result<(), TraceError> {
    let mut log = Playback::open(log)?;
    while log.next()?.is_some() {}
    Ok(())
}

/// Sums up the logs that `path` names, by rank; and says which are left out, as [`readable`] does.
fn summaries(path: &Path) -> anyhow::Result<(Vec<Summary>, Vec<String>)> {
    readable(path, |logs| {
        Ok(logs.iter().map(|log| Summary::of(log)).collect::<Result<_, TraceError>>()?)
    })
}
