//! A table with a line for each event, as RFC 4180 has it (with plain line ends).

use std::io::{self, Write};
use std::path::PathBuf;

use super::super::Playback;
use super::row::Row;
use super::{Cut, ExportError, note_cut};

const HEAD: &str = "rank,time_ns,event,region,offset,bytes,requested,step,microbatch,slice,chunk,\
                    layer,phase,op,file,line,unplanned";

/// Writes the head and the lines.
pub(super) fn write(logs: &[PathBuf], out: &mut impl Write) -> Result<Vec<Cut>, ExportError> {
    let mut cuts = Vec::new();
    writeln!(out, "{HEAD}")?;
    for path in logs {
        let mut log = Playback::open(path)?;
        while let Some(event) = log.next()? {
            line(&Row::of(&event, &log), out)?;
        }
        note_cut(&log, &mut cuts);
    }
    Ok(cuts)
}

fn line(row: &Row<'_>, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{},{},{}", row.rank, row.time_ns, row.event)?;
    text(row.region, out)?;
    for number in [row.offset, row.bytes, row.requested, row.step] {
        field(number, out)?;
    }
    for number in [row.microbatch, row.slice, row.chunk, row.layer] {
        field(number, out)?;
    }
    for words in [row.phase, row.op, row.file] {
        text(words, out)?;
    }
    field(row.line, out)?;
    field(row.unplanned, out)?;
    out.write_all(b"\n")
}

fn field(value: Option<impl std::fmt::Display>, out: &mut impl Write) -> io::Result<()> {
    match value {
        Some(value) => write!(out, ",{value}"),
        None => out.write_all(b","),
    }
}

fn text(value: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    match value {
        Some(text) if text.contains([',', '"', '\n', '\r']) => {
            write!(out, ",\"{}\"", text.replace('"', "\"\""))
        }
        other => field(other, out),
    }
}
