//! `slimpipe trace export`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::bail;
use slimpipe::train::draw::Chart;
use slimpipe::train::trace::export::{Format, LeftOut, Options, export};
use slimpipe::train::trace::{Playback, logs, timeline};

use super::readable;
use crate::cli::output;

/// Arguments of `trace export`.
#[derive(clap::Args)]
pub struct Args {
    /// A run's folder, its memory.events, or one rank's log.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// What to write.
    #[arg(long, value_name = "FORMAT")]
    to: To,
    /// The file to write it to.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How many entries of a rank memory-viz has at most, the last ones: browsers fail on much more
    /// [default: 1000000].
    #[arg(long, value_name = "N")]
    entries: Option<u64>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum To {
    /// A PyTorch snapshot, for pytorch.org/memory_viz and torch/cuda/_memory_viz.py.
    MemoryViz,
    /// A trace for ui.perfetto.dev.
    Perfetto,
    /// A table, an event a line.
    Csv,
    /// JSON objects, an event a line.
    Jsonl,
}

/// Reads the logs and writes them.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let format = match args.to {
        To::MemoryViz => Format::MemoryViz,
        To::Perfetto => Format::Perfetto,
        To::Csv => Format::Csv,
        To::Jsonl => Format::Jsonl,
    };
    if args.entries.is_some() && format != Format::MemoryViz {
        bail!("--entries is for --to memory-viz; other formats hold all there is, so leave it out");
    }
    let mut options = Options::default();
    options.entries = args.entries.unwrap_or(options.entries);
    if format == Format::Perfetto
        && let Some(file) = timeline(&args.path)
    {
        options.timeline = Some(Chart::read(&file)?);
    }
    let out = args.out.display();
    let sources = logs(&args.path)?;
    let (LeftOut { cuts, entries }, _) = readable(&args.path, |logs| {
        // Before the file is made: of what is no run, nothing is left.
        for log in logs {
            Playback::open(log)?;
        }
        let file = output::create(&args.out, &sources)?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        export(logs, format, &options, &mut file)
            .and_then(|left_out| Ok(file.flush().map(|()| left_out)?))
            .map_err(|error| anyhow::anyhow!("{error} ({out} is not complete)"))
    })?;
    for cut in cuts {
        let (path, at) = (cut.path.display(), cut.at);
        eprintln!("{path} was cut at byte {at}: {out} holds what is before that");
    }
    for (rank, count) in entries {
        let kept = options.entries;
        eprintln!(
            "rank {rank} has {count} entries: {out} holds the last {kept} (--entries), and first what was live before"
        );
    }
    println!(
        "wrote {out}: {}",
        match args.to {
            To::MemoryViz =>
                "drop it on pytorch.org/memory_viz, or run torch/cuda/_memory_viz.py on it",
            To::Perfetto => "open it in ui.perfetto.dev",
            To::Csv | To::Jsonl => "an event a line",
        }
    );
    Ok(())
}
