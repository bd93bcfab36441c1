//! `slimpipe trace view`.

use std::io::{self, BufWriter, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use slimpipe::train::draw::{self, Chart};
use slimpipe::train::trace::Playback;
use slimpipe::train::trace::view::{Traced, page};

use super::readable;
use crate::cli::output;

/// Runs below each other on a page: each needs room for its map.
const MOST_RUNS: usize = 2;

/// Arguments of `trace view`.
#[derive(clap::Args)]
pub struct Args {
    /// A run's folder, its memory.events, or one log; of two runs, both, to compare. Of a timeline.json or an
    /// export for Perfetto, what ranks did and held is shown.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The page.
    #[arg(long, value_name = "FILE", default_value = "memory.html")]
    out: PathBuf,
    /// Serve the page on this machine, at this port (0: any that is free), instead of writing it.
    #[arg(long, value_name = "PORT", conflicts_with = "out")]
    serve: Option<u16>,
}

/// Reads the logs, and writes or serves the page.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let is_timeline = |path: &PathBuf| path.extension().is_some_and(|is| is == "json");
    let timelines = args.files.iter().filter(|path| is_timeline(path)).count();
    if timelines > 0 {
        ensure!(
            timelines == args.files.len(),
            "memory logs and timelines make different pages: show one or the other"
        );
        let charts = args.files.iter().map(|path| Chart::read(path));
        let text = draw::page(&charts.collect::<Result<Vec<_>, _>>()?)?;
        return put(args, |out| out.write_all(text.as_bytes()));
    }
    let count = args.files.len();
    ensure!(
        count <= MOST_RUNS,
        "a page shows the memory of one run, or of {MOST_RUNS} to compare; {count} were given"
    );
    let mut traces = Vec::new();
    for path in &args.files {
        let ((trace, cuts), _) = readable(path, |logs| {
            let mut trace = Traced::new(path.display().to_string());
            let mut cuts = Vec::new();
            for path in logs {
                let mut log = Playback::open(path)?;
                trace.add(&mut log)?;
                cuts.extend(log.cut_at().map(|at| (path.display().to_string(), at)));
            }
            Ok((trace, cuts))
        })?;
        for (path, at) in cuts {
            eprintln!("{path} was cut at byte {at}: the page shows what is before that");
        }
        traces.push(trace);
    }
    put(args, |out| page(&traces, out))
}

/// Serves the page that `page` writes, or leaves it in a file.
fn put(args: &Args, page: impl Fn(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    if let Some(port) = args.serve {
        let mut text = Vec::new();
        page(&mut text)?;
        return serve(port, &text);
    }
    let mut file = BufWriter::new(output::create(&args.out, &args.files)?);
    let out = args.out.display();
    page(&mut file).and_then(|()| file.flush()).map_err(output::cannot_write(&args.out))?;
    println!("wrote {out}: open it in a browser");
    Ok(())
}

/// Answers every request with the page, until the command is ended.
fn serve(port: u16, text: &[u8]) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        anyhow!("cannot serve on port {port}: {error}; --serve 0 takes a free one")
    })?;
    println!("serving on http://{}/; end with Ctrl-C", listener.local_addr()?);
    std::thread::scope(|scope| {
        for stream in listener.incoming() {
            // Browsers open connections that they may never use: one must not keep others waiting. One that
            // goes away is no reason to end.
            scope.spawn(|| stream.and_then(|stream| answer(stream, text)));
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream, text: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Whatever is asked for, the answer is the same: it is enough to wait for the request.
    let _ = stream.read(&mut [0; 4096])?;
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(text)
}
